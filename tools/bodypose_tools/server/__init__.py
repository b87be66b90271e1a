"""The embedded tritonserver: command line, process, life and end."""
