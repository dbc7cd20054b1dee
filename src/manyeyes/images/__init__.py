"""Image files to upright pictures, and boxes drawn onto pictures."""
