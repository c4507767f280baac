"""Tracks of a ledger as files that people open: named by their titles, with what says where they come from."""
