"""What libsndfile does not read and phones and browsers record, by FFmpeg's decoders in a process of their own."""
