"""GQA's measures besides accuracy (Hudson and Manning 2019; the official ``eval.py``)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_NO_STEP = ("exist", "query: name", "choose name")
_COMMON = frozenset({"color", "material", "shape"})

Region = tuple[float, float, float, float]
"""``(x1, y1, x2, y2)`` in shares of the image's width and height."""


def reasoning_steps(program: Iterable[Mapping[str, Any]]) -> int:
    """Operations of a question's ``semantic`` program, without those that only ask.

    Left out is each operation whose "operation: argument" holds "exist", "query: name" or
    "choose name".
    """
    texts = (f"{step['operation']}: {step['argument']}" for step in program)
    return sum(not any(part in text for part in _NO_STEP) for text in texts)


def belongs(answer: str, answers: Collection[str], detailed_type: str) -> bool:
    """Whether an answer is among the valid (or plausible) ones of its question.

    For questions whose detailed type holds "Common" these are color, material and shape.
    """
    return answer in (_COMMON if "Common" in detailed_type else answers)


def consistency(
    right: Mapping[str, bool], entailed: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Question id -> share of right answers among the questions that it entails.

    Only for questions in ``entailed`` that were answered right and entail another than themselves.
    ``right`` holds all of them and all that they entail.
    """
    found = {}
    for identity, followers in entailed.items():
        others = [follower for follower in followers if follower != identity]
        if right[identity] and others:
            found[identity] = sum(right[other] for other in others) / len(others)
    return found


def distribution(
    gold: Sequence[str], predicted: Sequence[str], groups: Sequence[Hashable | None]
) -> float:
    """How far the answers' frequencies are from the right ones'; 0 is best.

    χ²_g = Σ_a (o - e)² / e over the right answers a of a group g (predictions of other answers do
    not count); the result is Σ_g χ²_g n_g / Σ_g n_g / 100. Questions without a group are left out.
    """
    wanted: defaultdict[Hashable, Counter[str]] = defaultdict(Counter)
    given: defaultdict[Hashable, Counter[str]] = defaultdict(Counter)
    for right, said, group in zip(gold, predicted, groups, strict=True):
        if group is not None:
            wanted[group][right] += 1
            given[group][said] += 1
    weighted = 0.0
    for group, expected in wanted.items():
        chi = sum((given[group][answer] - e) ** 2 / e for answer, e in expected.items())
        weighted += chi * expected.total()
    total = sum(expected.total() for expected in wanted.values())
    return weighted / total / 100 if total else 0.0


def grounding(attention: ArrayLike, regions: Sequence[Region]) -> float:
    """Attention on the regions a question and its answer speak of; may exceed 1 where they overlap.

    Σ over regions and cells of attention · |cell ∩ region| / |cell|. ``attention`` ``[S, S]``, the
    first axis from left to right as in the official code.
    """
    weights = np.asarray(attention, dtype=np.float64)
    boxes = np.array(regions, dtype=np.float64).reshape(-1, 4)
    across = _overlap(boxes[:, 0], boxes[:, 2], weights.shape[0])
    down = _overlap(boxes[:, 1], boxes[:, 3], weights.shape[1])
    return float(np.einsum("ij,ri,rj->", weights, across, down))


def _overlap(
    low: NDArray[np.float64], high: NDArray[np.float64], cells: int
) -> NDArray[np.float64]:
    """Share of each of ``cells`` equal cells of 0..1 that lies in each interval: ``[R, cells]``."""
    edges = np.arange(cells + 1) / cells
    shared = np.minimum(high[:, None], edges[None, 1:]) - np.maximum(low[:, None], edges[None, :-1])
    covered: NDArray[np.float64] = np.clip(shared, 0.0, None) * cells
    return covered
