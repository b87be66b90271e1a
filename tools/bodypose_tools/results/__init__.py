"""Records of measurements: how one is made, what its numbers decide, and which pages quote it."""
