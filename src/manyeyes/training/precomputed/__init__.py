"""What frozen parts find in every image, computed once before a stage."""
