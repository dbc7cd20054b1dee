"""What a reader must know before any difference: sentences on how far the figures can carry.

Few right answers: where no arm is right more than nine times, chance decides who is ahead. Blind
answers: how much of a benchmark the same models answer with the images withheld. Seen pictures: how
many of the asked pictures, or copies of them, were trained on. Rehearsal: own pictures before the
world's tiny parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from manyeyes.lines import number_text
from manyeyes.study.record import Seen

FEW_RIGHT = 10
"""Right answers of the best arm below which a benchmark says little (ours)."""


def few_right(best: Mapping[str, tuple[float, int]]) -> str:
    """Return a sentence about benchmarks that are hardly answered at all, or "".

    ``best``: benchmark's title -> (right answers of the best arm, a mean over seeds; questions).
    """
    parts = [
        f"{title} ({number_text(right)} of {asked})"
        for title, (right, asked) in best.items()
        if right < FEW_RIGHT
    ]
    return f"Too few right answers to judge by: {_listed(parts)} at best." if parts else ""


def blind_solvable(shares: Mapping[str, float]) -> str:
    """Return how much is answered without the images, or "" where nobody was asked so.

    ``shares``: benchmark's title -> best score in points of an arm that saw no image.
    """
    parts = [f"{title} {share:.1f}" for title, share in shares.items()]
    if not parts:
        return ""
    return f"Blind-solvable, the best score without the image (seed 0): {_listed(parts)}."


def rehearsal(seen: Seen | None, recipes: Iterable[str]) -> str:
    """Return what figures of the world's tiny parts say about pictures of one's own, or ""."""
    if seen is None or not all("/world" in recipe for recipe in recipes):
        return ""
    return (
        "A rehearsal: the world's tiny encoders have seen drawn shapes only, so these figures say "
        "nothing about real encoders on your pictures; --size small takes those."
    )


def seen_pictures(seen: Seen | None) -> str:
    """Return how many of the asked pictures were trained on, or "" where nobody looked."""
    if seen is None:
        return ""
    how = "by name and by fingerprint" if seen.compared else "by name only: there are too many"
    if not seen.trained:
        return f"None of the {seen.asked} asked pictures is in the training rows ({how})."
    share = 100 * seen.trained / max(1, seen.asked)
    return (
        f"Contaminated: {seen.trained} of the {seen.asked} asked pictures ({share:.0f} %) are in "
        f"the training rows too ({how})."
    )


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
