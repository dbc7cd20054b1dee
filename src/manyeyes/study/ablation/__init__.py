"""``manyeyes ablate``: what each part is worth to a trained model."""
