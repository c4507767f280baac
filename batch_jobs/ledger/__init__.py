"""What was made, for whom and for how much: tables in Parquet, and the manifests that say which files count."""
