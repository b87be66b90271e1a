"""The embedded tritonserver: its command line, start, supervision, stop, and load on it."""
