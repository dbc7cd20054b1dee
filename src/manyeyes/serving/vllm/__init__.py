"""Trained models in vLLM, through its Transformers backend."""
