"""What the decoder hears of a request: words and melody as vectors."""
