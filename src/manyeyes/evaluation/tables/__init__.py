"""Results side by side: tables, and two sets of answers compared."""
