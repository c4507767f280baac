"""What was committed becomes the ledger: four tables of Parquet, and a bill that adds up."""
