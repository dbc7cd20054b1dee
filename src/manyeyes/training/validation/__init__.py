"""Validation while a stage trains."""
