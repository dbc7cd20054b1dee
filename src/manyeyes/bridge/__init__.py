"""The ways visual evidence enters a language model."""
