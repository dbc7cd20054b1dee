"""A saved folder leads the Auto classes to our package, also where nobody has imported it.

``config.json`` and ``processor_config.json`` name classes of ``modeling_manyeyes.py`` under
``auto_map``. That file lies beside them, and imports manyeyes or says how to install it. Whoever
has imported manyeyes never runs it: our classes are known to the Auto classes then.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

CODE = Path(__file__).with_name("modeling_manyeyes.py")
AUTO_CLASSES = {
    "AutoConfig": "ManyEyesConfig",
    "AutoModelForImageTextToText": "ManyEyesForConditionalGeneration",
    "AutoProcessor": "ManyEyesProcessor",
}


def auto_map(*names: str) -> dict[str, str]:
    """Return where the Auto classes of those names, or all of them, find ours."""
    return {name: f"{CODE.stem}.{AUTO_CLASSES[name]}" for name in names or AUTO_CLASSES}


class NotCopied:
    """Of a class that Auto classes load: its module is not copied into the folders it saves."""

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Do nothing: the folder has ``modeling_manyeyes.py`` in any case."""


class WritesCode(NotCopied):
    """Of a configuration or a processor: the file that its ``auto_map`` names lies beside it."""

    def to_json_file(self, json_file_path: Any, *args: Any, **kwargs: Any) -> None:
        """Write as ``transformers`` does, and ``modeling_manyeyes.py`` beside it."""
        super().to_json_file(json_file_path, *args, **kwargs)  # type: ignore[misc]
        shutil.copyfile(CODE, Path(json_file_path).with_name(CODE.name))
