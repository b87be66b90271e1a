"""The `tools` command: train, export, build and serve. Each module owns one stage."""
