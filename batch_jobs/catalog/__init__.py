"""Catalogs in: the bytes of a file become numbered rows, each one a request or the reason why it is not."""
