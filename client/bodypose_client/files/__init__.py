"""Image files in, result files out: one run over many images."""
