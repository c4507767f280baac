"""What to do when something does not answer: try again, within a budget."""
