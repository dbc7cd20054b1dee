"""What is known of images beside the data: objects, tags, names."""
