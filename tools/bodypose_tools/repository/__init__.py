"""The model repository that Triton loads: building, checking and versioning it."""
