"""Means and standard deviations of encoders' features, measured before the first step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack

import torch

from manyeyes.data.dataset import image_of
from manyeyes.data.mixture import Mixture
from manyeyes.encoders import GridEncoder
from manyeyes.images.reading import load_image
from manyeyes.model.inputs import PIXELS
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.training.precomputed.features import unique_images

logger = logging.getLogger(__name__)

MOST_IMAGES = 256
"""Images that are measured (ours): of each some hundred patches."""
CHUNK = 32
"""Images encoded at a time."""


@torch.no_grad()
def measure_statistics(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    mixture: Mixture,
    device: torch.device,
) -> None:
    """Measure what ``feature_norm: standardize`` asks for and no earlier stage has measured.

    Every process measures the same images: ``MOST_IMAGES`` of the mixture's, evenly spaced.

    Raises:
        ImageError: an image cannot be read; names sample and path.
    """
    encoders = {
        name: encoder
        for name, encoder in model.encoders.items()
        if isinstance(encoder, GridEncoder) and encoder.feature_norm.unmeasured
    }
    owners = unique_images(mixture) if encoders else {}
    if not owners:
        return
    paths = spread(list(owners), MOST_IMAGES)
    model.to(device)  # type: ignore[arg-type]
    model.eval()
    with ExitStack() as stack:
        for encoder in encoders.values():
            stack.enter_context(encoder.feature_norm.measuring())
        for start in range(0, len(paths), CHUNK):
            pictures = []
            for path in paths[start : start + CHUNK]:
                with image_of(owners[path]):
                    pictures.append(load_image(path))
            pixels = processor.pixels(pictures, list(encoders))
            for name, encoder in encoders.items():
                encoder(pixels[f"{PIXELS}{name}"].to(device))
    names = ", ".join(encoders)
    logger.info("feature_norm: standardize: measured %d images for %s", len(paths), names)


def spread(paths: Sequence[str], most: int) -> list[str]:
    """Return at most ``most`` of ``paths``, evenly spaced, in order."""
    if len(paths) <= most:
        return list(paths)
    return [paths[index * len(paths) // most] for index in range(most)]
