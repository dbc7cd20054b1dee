"""Other harnesses: our models inside them, and our benchmarks as their tasks."""
