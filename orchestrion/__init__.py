"""Orchestrion's core: one request in, one signed track out. It imports no Ray and no FastAPI."""

__version__ = "0.1.0"
