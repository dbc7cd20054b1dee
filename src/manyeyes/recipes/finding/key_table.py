"""The keys of recipes as they ship beside the recipes; `reference` makes the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from manyeyes.errors import UsageError, nearest
from manyeyes.recipes.names import PACKAGED

KEYS_FILE = PACKAGED / "keys.json"

TITLES: Mapping[str, str] = {
    "recipe": "The recipe itself",
    "world": "`world`: data that a recipe makes for itself",
    "stages": "`stages`: one training run each",
    "stages.train": "`stages.train`: what learns, a block for a pattern",
    "stages.train.lora": "`stages.train.lora`: LoRA on a part",
    "stages.data": "`stages.data`: one data file",
    "stages.data.objects": "`stages.data.objects`: detected objects",
    "stages.data.tags": "`stages.data.tags`: tags of images",
    "stages.start": "`stages.start`: weights to begin with",
    "stages.eval": "`stages.eval`: validation while training",
    "model": "`model`",
    "encoders": "`model.encoders`: one of the list",
    "language": "`model.language`",
    "tiling": "`model.tiling`: pictures in tiles",
    "perception_text": "`model.perception_text`",
    "tagger": "`model.tagger`",
    "bridge.adapters": "`model.bridge.adapters`",
    "training": "`training`: fields of `transformers.TrainingArguments`",
}
"""Block -> heading; fusions and bridges are headed by their names."""


@dataclass(frozen=True)
class Key:
    """What a key takes: its type, its default (None: it must be given), and its meaning."""

    type: str
    default: str | None
    meaning: str


def known_keys() -> dict[str, dict[str, Key]]:
    """Return block -> key -> what it takes, as they ship."""
    blocks = json.loads(KEYS_FILE.read_text(encoding="utf-8"))
    return {
        block: {name: Key(**said) for name, said in keys.items()} for block, keys in blocks.items()
    }


def chosen_blocks(word: str) -> dict[str, dict[str, Key]]:
    """Return the blocks of a name (``fusion.comm``, ``model.fusion.comm``, ``fusion``), or the
    blocks that have a key of that name, with this key alone.

    Raises:
        UsageError: neither; names the nearest.
    """
    known = known_keys()
    name = word.removeprefix("model.") if word != "model" else word
    found = {b: keys for b, keys in known.items() if b == name or b.startswith(f"{name}.")}
    if not found:
        key = name.rpartition(".")[2]
        found = {b: {key: keys[key]} for b, keys in known.items() if key in keys}
    if not found:
        names = [*known, *(key for keys in known.values() for key in keys)]
        raise UsageError(f"no block or key {word!r}{nearest(word, names)}; blocks: {_list(known)}")
    return found


def markdown(blocks: Mapping[str, Mapping[str, Key]]) -> str:
    """Return the page of the docs."""
    order = [*TITLES, *(block for block in blocks if block not in TITLES)]
    lines = [
        "# Every key of a recipe",
        "",
        "`manyeyes keys fusion.comm` prints one block in the terminal, `manyeyes keys lln_order` "
        "finds a key. This page is made from the classes that check recipes, by "
        "`python -m manyeyes.recipes.finding.reference`.",
    ]
    for block in order:
        lines += ["", f"## {TITLES.get(block, f'`{block}`')}", ""]
        if block == "training":
            lines += [_TRAINING, "", ", ".join(f"`{name}`" for name in blocks[block])]
            continue
        if not blocks[block]:
            lines.append("It has no keys but `name`.")
            continue
        lines += ["| key | takes | default | meaning |", "|---|---|---|---|"]
        lines += [_row(name, key) for name, key in blocks[block].items()]
    return "\n".join(lines) + "\n"


_TRAINING = (
    "They mean what the documentation of transformers says. `bf16: auto` is ours: true where the "
    "machine computes bfloat16 natively. Recipes may hold:"
)


def _row(name: str, key: Key) -> str:
    default = "must be given" if key.default is None else key.default
    cells = (f"`{name}`", key.type, default, key.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _list(names: Mapping[str, object]) -> str:
    return ", ".join(names)
