"""Settling a run: what became of each row, who pays for what, and the commit that says so."""
