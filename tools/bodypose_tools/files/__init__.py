"""Files that stages produce: written whole or not at all, with a record naming their parents."""
