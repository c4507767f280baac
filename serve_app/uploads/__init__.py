"""Files that people send: checked in processes of their own, kept for a while."""
