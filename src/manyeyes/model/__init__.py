"""The Hugging Face model: configuration, model and processor."""
