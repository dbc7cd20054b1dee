"""Pixels to features: one file per encoder family."""
