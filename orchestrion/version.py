"""The version of this software: part of every record that it signs."""

__version__ = "0.1.0"
