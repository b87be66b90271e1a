"""Tests that need an NVIDIA GPU: `python -m pytest tests/gpu` on a machine with one."""
