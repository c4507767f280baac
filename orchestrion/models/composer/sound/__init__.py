"""What it is played on: the sound font, and instruments made of oscillators."""
