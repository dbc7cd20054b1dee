"""The model among the Auto classes of transformers."""
