"""Training of the world's vision parts."""
