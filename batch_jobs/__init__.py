"""Ray Data around the core: catalogs in, audio and Parquet out."""
