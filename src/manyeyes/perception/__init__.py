"""Detected objects: from a detector's tensors to words of the prompt, and back."""
