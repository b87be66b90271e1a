"""What the `pose-client` commands print and ask."""
