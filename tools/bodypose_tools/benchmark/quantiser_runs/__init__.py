"""Scripts that run in the environment of another project's quantiser, each with one job file."""
