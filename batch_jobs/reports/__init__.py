"""The ledger, said to people: the figures, the words for them, a terminal and a page."""
