"""Recipe stages to trained parts."""
