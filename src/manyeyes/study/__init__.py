"""Comparisons and reports."""
