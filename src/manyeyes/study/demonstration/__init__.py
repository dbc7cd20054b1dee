"""``manyeyes demo``: the whole line in minutes."""
