"""The embedded composer: prompt → score → sampled instruments → mix. No download, no GPU, bit-reproducible."""
