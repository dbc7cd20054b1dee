"""``manyeyes explain``: one answer, and what it came from."""
