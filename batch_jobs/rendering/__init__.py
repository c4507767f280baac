"""Shards through a pool of processes that may be taken away any time, each to its commit."""
