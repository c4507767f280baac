"""Scaling decisions: context in, decision out, standard library only."""
