"""Tables of counts as Parquet files."""
