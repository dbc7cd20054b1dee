"""How sure a score or a difference is."""
