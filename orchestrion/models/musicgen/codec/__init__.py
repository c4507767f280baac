"""Codes to sound and back: EnCodec, in pieces that join without a seam."""
