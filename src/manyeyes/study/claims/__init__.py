"""``manyeyes claims``: what the papers claim, tried."""
