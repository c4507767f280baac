"""MusicGen as a served model: checkpoint → conditions → continuous batching over slots → streaming codec."""
