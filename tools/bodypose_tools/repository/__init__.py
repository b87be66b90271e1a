"""The folder that Triton loads: built, checked, versioned."""
