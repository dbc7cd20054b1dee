"""Training of the world's language models."""
