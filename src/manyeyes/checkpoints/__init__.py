"""Where weights come from, how they are told apart, and light checkpoints."""
