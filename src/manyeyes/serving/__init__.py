"""Chat and serving."""
