"""A checkpoint from a folder or a hub, read within bounds: sizes first, weights when they are needed."""
