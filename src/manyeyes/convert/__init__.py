"""Checkpoints of other projects, as manyeyes models: one file per project."""
