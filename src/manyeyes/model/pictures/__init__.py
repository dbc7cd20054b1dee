"""What encoders see of pictures: pixels, tiles, and the first two steps of the model."""
