"""What is counted, each metric declared once."""
