"""``manyeyes compare``: arms, verdicts between them, and the page."""
