"""Settling a run: what became of each row, what each is charged, and the commit that says so."""
