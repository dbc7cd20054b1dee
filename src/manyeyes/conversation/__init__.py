"""What is said about images: turns to one string, boxes, tags, task types."""
