"""The ways visual evidence enters a language model, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manyeyes.bridge.adapter_prompts import AdapterPromptsBridge
from manyeyes.bridge.contract import Bridge, Given, ImageTokenIds
from manyeyes.bridge.placeholder import PlaceholderBridge
from manyeyes.options import check_choice, parse_options

BRIDGES: dict[str, type[Bridge]] = {
    "adapter_prompts": AdapterPromptsBridge,
    "placeholder": PlaceholderBridge,
}


def parse_bridge(values: Mapping[str, Any]) -> tuple[type[Bridge], Any]:
    """Return the bridge class and its checked options for a ``bridge:`` block.

    Raises:
        RecipeError: unknown name or key.
    """
    name = values.get("name", "placeholder")
    check_choice("bridge", "name", name, tuple(BRIDGES))
    cls = BRIDGES[name]
    rest = {key: value for key, value in values.items() if key != "name"}
    return cls, parse_options(cls.options_class, rest, "bridge")


__all__ = ["BRIDGES", "Bridge", "Given", "ImageTokenIds", "parse_bridge"]
