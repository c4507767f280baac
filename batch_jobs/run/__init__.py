"""A run as those who started it see it: how far it is, what it waits for, and when it is to stop."""
