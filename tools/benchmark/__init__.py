"""The benchmark of the whole pipeline: one module a subject, every ratio measured in one run."""
