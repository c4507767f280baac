"""Ray Serve around the core: HTTP in, audio out."""
