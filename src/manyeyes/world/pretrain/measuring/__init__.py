"""What the world's parts are measured on."""
