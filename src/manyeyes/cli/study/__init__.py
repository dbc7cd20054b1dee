"""The commands that train, compare and explain on the built-in world."""
