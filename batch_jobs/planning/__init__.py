"""Before anything is spent: which job it is, which shards are still to do, and what they will take."""
