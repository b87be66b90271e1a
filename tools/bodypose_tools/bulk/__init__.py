"""Many images without a server: parts of the input become Parquet files of poses."""
