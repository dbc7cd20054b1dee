"""Frozen or tuned language models behind one small contract."""
