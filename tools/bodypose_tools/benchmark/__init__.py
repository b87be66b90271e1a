"""Measurements of each step of the pipeline on one machine, and the search for serving settings."""
