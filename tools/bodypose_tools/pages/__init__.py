"""Numbers on pages: blocks made from records, and the check that no other number stands there."""
