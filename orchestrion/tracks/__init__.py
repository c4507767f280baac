"""What a track is: what was asked for, its identity, its record, what became of it."""
