"""``manyeyes convert``: one file for each kind."""
