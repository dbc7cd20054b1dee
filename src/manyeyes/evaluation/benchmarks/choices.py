"""Questions with lettered options; shared by `iconqa`, `mmbench`, `seed-bench`.

A prediction is a text that names an option (`scorers.multiple_choice`), or a JSON value: the losses
of all options, of which the smallest chooses, or the place of the option.

    "B. a dog"      {"losses": [1.2, 0.3, 2.0, 0.9]}      {"choice": 1}
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from manyeyes.data.containers.rows import Row, show
from manyeyes.errors import DataError
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.scorers.multiple_choice import chosen_option
from manyeyes.inference.questions import Item

PROMPT = "{question}\n{options}\nAnswer with the option's letter from the given choices directly."


RANKING_PROMPT = "{question}"
"""Where the options are scored, they are not listed."""


def from_losses(item: Item, losses: Sequence[float]) -> Prediction:
    """The prediction of a model that scored all options."""
    return {"losses": list(losses)}


def lettered(options: Mapping[str, str]) -> str:
    """The options as a prompt shows them: "A. a dog", one a line."""
    return "\n".join(f"{letter}. {text}" for letter, text in options.items())


def options_of(item: Item) -> dict[str, str]:
    """Letter -> text of an item's choices."""
    letters = item.meta.get("letters", ascii_uppercase)
    return dict(zip(letters, item.candidates, strict=False))


def chosen_letter(item: Item, prediction: Prediction) -> str | None:
    """The option that a prediction chooses, None where it cannot be said.

    Raises:
        DataError: losses or a place that do not fit the item's options.
    """
    options = options_of(item)
    if isinstance(prediction, str):
        return chosen_option(prediction, options)
    letters = list(options)
    if isinstance(prediction, Mapping) and "losses" in prediction:
        losses = prediction["losses"]
        if len(losses) != len(letters):
            message = f"expected {len(letters)} losses for {item.id!r}, got {len(losses)}"
            raise DataError(message)
        return letters[losses.index(min(losses))]
    if isinstance(prediction, Mapping) and "choice" in prediction:
        place = prediction["choice"]
        return letters[place] if 0 <= place < len(letters) else None
    raise DataError(f"expected a text or losses as the prediction for {item.id!r}")


def parse_losses(row: Row, key: str) -> Prediction:
    """The losses of all options under a key: a list of finite numbers."""
    expected = "a list of finite numbers"
    values = row.items(key, expected)
    if not values or not all(_is_finite(value) for value in values):
        raise row.error(key, f"expected {expected}, got {show(values)}")
    return {"losses": [float(value) for value in values]}


def majority_letter(items: Sequence[Item], counted: Sequence[Item], box_style: str) -> list[str]:
    """The letter that is right most often, everywhere (ties: first in the alphabet)."""
    counts = Counter(item.references[0] for item in counted)
    return [min(counts, key=lambda letter: (-counts[letter], letter))] * len(items)


def _is_finite(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]
