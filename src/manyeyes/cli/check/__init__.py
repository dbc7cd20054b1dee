"""``manyeyes check``: its two halves, recipes and data."""
