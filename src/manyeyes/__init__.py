"""manyeyes: multimodal LLMs that see through several vision encoders."""

__version__ = "0.1.0"
