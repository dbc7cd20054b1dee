"""``manyeyes choose``: which encoders, before any training."""
