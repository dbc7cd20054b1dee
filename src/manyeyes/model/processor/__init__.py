"""Of the processor: what a configuration decides of it, and the parts that do its work."""
