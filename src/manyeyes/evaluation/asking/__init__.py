"""Benchmarks put to a model, and the ways to ask."""
