"""Features to visual evidence: one file per method."""
