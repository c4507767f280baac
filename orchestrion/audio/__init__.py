"""Sound as numbers and as bytes: loudness, mastering, encoding, the checks, uploads."""
