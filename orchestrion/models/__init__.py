"""The models that make music, each behind the one protocol of `protocol.py`."""
