"""Where tracks, records and uploads are kept, and how they are withdrawn."""
