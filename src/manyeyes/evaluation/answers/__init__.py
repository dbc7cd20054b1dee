"""Answers in files: kept while they are made, and scored without a model."""
