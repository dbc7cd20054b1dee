"""What is put inside a language model, which itself stays as it is."""
