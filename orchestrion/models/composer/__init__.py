"""The embedded composer: prompt → score → sampled instruments → mix. No download, no GPU, bit-reproducible.

It loads nothing here: what reads themes needs no instruments.
"""
