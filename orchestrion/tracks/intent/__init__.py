"""What a prompt's words ask for, in twelve languages: read by one reader, from words that are data."""
