"""Codes from conditions: the transformer, on a CPU in code of our own, elsewhere by PyTorch."""
