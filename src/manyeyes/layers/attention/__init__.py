"""Attention in all its forms, and maps of it."""
