"""The decoder in code compiled for this CPU, one step at a time, on all its threads."""
