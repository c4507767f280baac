"""The decoder in PyTorch, with Triton kernels where there is a card."""
