"""Mutants: small changes of the core that the changed module's own tests must notice."""
