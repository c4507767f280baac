"""Meta's audiocraft as it is, behind our interface: a second backend, and what the parity tests compare with."""
