"""Recipes on your own rows: their stages, and new recipe files."""
