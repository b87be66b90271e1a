"""Whole channels leave a network: scored, cut, retrained in a loop, traded against AP."""
