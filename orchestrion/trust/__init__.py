"""Who made a track, and how that is proved: keys, signatures, signed records, tombstones."""
