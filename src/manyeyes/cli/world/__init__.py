"""``manyeyes world``: its data and its parts."""
