"""People drawn onto photos, and sheets of such pictures."""
