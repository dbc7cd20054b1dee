"""manyeyes: multimodal LLMs that see through several vision encoders.

Importing it makes the Auto classes of ``transformers`` know the model. PyTorch and transformers are
imported when they are needed: with the first of the names below, or by whoever loads a model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from manyeyes.model.auto.registration import register_when_needed

if TYPE_CHECKING:
    from manyeyes.model.configuration import ManyEyesConfig
    from manyeyes.model.modeling import ManyEyesForConditionalGeneration
    from manyeyes.model.processing import ManyEyesProcessor

__version__ = "0.1.0"

_PLACES = {
    "ManyEyesConfig": "manyeyes.model.configuration",
    "ManyEyesForConditionalGeneration": "manyeyes.model.modeling",
    "ManyEyesProcessor": "manyeyes.model.processing",
}

register_when_needed()


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})


__all__ = [
    "ManyEyesConfig",
    "ManyEyesForConditionalGeneration",
    "ManyEyesProcessor",
    "__version__",
]
