"""Small modules shared by two or more neighbours."""
