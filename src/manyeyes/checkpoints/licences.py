"""Under which licences the parts of a model stand, as far as their own folders say so.

A folder of the hub says it in the head of its ``README.md`` (``license``). Nothing is downloaded
for it: what is neither a folder nor in the hub's cache is not known.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import ModelCard, try_to_load_from_cache

from manyeyes.checkpoints.hub import WORLD_SCHEME

OWN = "apache-2.0"
"""Of the world's parts, which ship with this package."""
UNKNOWN, OTHER = "unknown", "other"
"""What the hub calls a licence that is not known, and one that is not in its list."""


def licence(checkpoint: str) -> str | None:
    """Return the licence of a checkpoint by the hub's name for it, None if it is not known."""
    if checkpoint.startswith(WORLD_SCHEME):
        return OWN
    card = _readme(checkpoint)
    if card is None:
        return None
    try:
        data = ModelCard(card.read_text(encoding="utf-8")).data.to_dict()
    except Exception:  # YAML of any kind, by anybody
        return None
    found = data.get("license_name") if data.get("license") == OTHER else data.get("license")
    return found if isinstance(found, str) and found else None


def together(licences: Iterable[str | None]) -> dict[str, str]:
    """Return the fields ``license`` and ``license_name`` of what is made from several parts."""
    found = set(licences)
    if None in found or not found:
        return {"license": UNKNOWN}
    if len(found) > 1:
        return {"license": OTHER, "license_name": "those-of-its-parts"}
    (only,) = (name for name in found if name is not None)
    return {"license": only}


def _readme(checkpoint: str) -> Path | None:
    folder = Path(checkpoint)
    if not checkpoint or folder.is_dir():
        file = folder / "README.md"
        return file if checkpoint and file.is_file() else None
    try:
        found = try_to_load_from_cache(checkpoint, "README.md")
    except ValueError:  # no id of the hub
        return None
    return Path(found) if isinstance(found, str) else None
