"""The Auto classes of transformers know our model, without importing manyeyes importing torch.

Whoever loads by ``AutoConfig``, ``AutoModelForImageTextToText`` or ``AutoProcessor`` imports
``transformers.models.auto`` first. When that has happened, and no module of ours or of
transformers' models is half imported any more, the model is registered; if it had happened before
``import manyeyes``, at once. Nothing else of transformers is touched.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

AUTO = "transformers.models.auto.configuration_auto"
_WATCHED = ("manyeyes.", "transformers.models.")


def register_when_needed() -> None:
    """Register the model now if the Auto classes are loaded, else as soon as they are."""
    if AUTO in sys.modules:
        register()
    elif not any(isinstance(finder, _Registrar) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Registrar())


def register() -> None:
    """Make the Auto classes know configuration, model and processor."""
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    from manyeyes.model.configuration import ManyEyesConfig
    from manyeyes.model.modeling import ManyEyesForConditionalGeneration
    from manyeyes.model.processing import ManyEyesProcessor

    AutoConfig.register(ManyEyesConfig.model_type, ManyEyesConfig, exist_ok=True)
    AutoModelForImageTextToText.register(
        ManyEyesConfig, ManyEyesForConditionalGeneration, exist_ok=True
    )
    AutoProcessor.register(ManyEyesConfig, ManyEyesProcessor, exist_ok=True)


class _Registrar:
    """Finds nothing by itself: it notes when the modules it watches begin and end to be executed.

    ``open``: how many of them are being executed.
    """

    def __init__(self) -> None:
        self.open = 0

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the other finders give, its execution watched."""
        if not name.startswith(_WATCHED):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((one for one in found if one is not None), None)
        if spec is not None and spec.loader is not None:
            self._watch(spec)
        return spec

    def _watch(self, spec: ModuleSpec) -> None:
        assert spec.loader is not None, "checked by the caller"
        execute = spec.loader.exec_module

        def watched(module: ModuleType) -> None:
            self.open += 1
            try:
                execute(module)
            finally:
                self.open -= 1
            if not self.open and AUTO in sys.modules and self in sys.meta_path:
                sys.meta_path.remove(self)
                register()

        spec.loader.exec_module = watched  # type: ignore[method-assign]
