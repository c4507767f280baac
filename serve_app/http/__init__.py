"""What HTTP says, apart from what we mean by it: bodies, conditions, formats, negotiation."""
