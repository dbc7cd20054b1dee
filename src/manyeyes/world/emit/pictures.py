"""Pictures as image files: those of the splits, and those that a format brings along."""

from __future__ import annotations

import io

from PIL import Image

from manyeyes.world.render import render
from manyeyes.world.scene import Scene


def png_bytes(scene: Scene) -> bytes:
    """Return the picture of a scene as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(render(scene)).save(stream, format="png")
    return stream.getvalue()


def jpeg_bytes(scene: Scene) -> bytes:
    """Return the picture of a scene as a JPEG file, for formats that name their images so."""
    stream = io.BytesIO()
    picture = Image.fromarray(render(scene))
    picture.save(stream, format="jpeg", quality=95, subsampling=0)
    return stream.getvalue()
