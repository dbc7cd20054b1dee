"""What people say about scenes: captions, questions, expressions, yes/no questions, statements."""

from __future__ import annotations

from manyeyes.world.language.captions import caption, captions

__all__ = ["caption", "captions"]
