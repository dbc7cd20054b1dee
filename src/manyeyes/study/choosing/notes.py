"""A choice in sentences: what leads, what is tied with it, and what that does not say."""

from __future__ import annotations

from collections.abc import Sequence

from manyeyes.lines import with_minus
from manyeyes.study.choosing.candidates import Candidates
from manyeyes.study.choosing.record import Choice, RankedSet
from manyeyes.study.choosing.scores import Interval

CAUTION = (
    "Likeness to the language model's features is a guess at what training will make of an "
    "encoder; `manyeyes compare` on the short list decides, and `manyeyes choose --judge` says how "
    "well this ranking had guessed."
)


def figure(value: float, ci95: Interval | None, digits: int = 3) -> str:
    """Return ``0.412 [0.371, 0.450]``."""
    text = f"{value:.{digits}f}"
    if ci95 is not None:
        text += f" [{ci95[0]:.{digits}f}, {ci95[1]:.{digits}f}]"
    return with_minus(text)


def headline(choice: Choice) -> str:
    """Return which set is most like the language model, and which are tied with it."""
    best = choice.best
    said = f"{best.name} is most like the language model: {figure(best.score, best.ci95)}."
    names = [one.name for one in choice.tied]
    if not names:
        return f"{said} No other set is tied with it."
    shown = "; ".join(names[:6]) + (f"; and {len(names) - 6} more" if len(names) > 6 else "")
    return f"{said} Tied with it on these pictures: {shown}."


def notes_of(sets: Sequence[RankedSet], candidates: Candidates) -> list[str]:
    """Return what a reader must know, a sentence or two each."""
    notes = [_joining(sets), _second_opinion(sets), *candidates.left_out, CAUTION]
    if any(one.distortion and not one.distortion.converged for one in sets):
        notes.append("Some searches for GW ended before they converged.")
    return [note for note in notes if note]


def _joining(sets: Sequence[RankedSet]) -> str:
    """Whether a set of several leads the best single encoder."""
    single = next(one for one in sets if len(one.encoders) == 1)
    joined = next((one for one in sets if len(one.encoders) > 1), None)
    if joined is None:
        return ""
    if sets[0] is single:
        return f"No set of several encoders scores above {single.name} alone."
    lead = figure(single.behind, single.behind_ci95)
    if single.tied:
        return (
            f"{joined.name} leads the best single encoder, {single.name}, by {lead}: no surer than "
            "chance."
        )
    return f"{joined.name} leads the best single encoder, {single.name}, by {lead}."


def _second_opinion(sets: Sequence[RankedSet]) -> str:
    """Whether GW prefers the same single encoder."""
    singles = [one for one in sets if len(one.encoders) == 1 and one.distortion is not None]
    nearest = min(singles, key=lambda one: one.distortion.value if one.distortion else 0.0)
    if nearest is singles[0]:
        return f"By GW too, {nearest.name} is the nearest single encoder."
    return (
        f"By GW, {nearest.name} and not {singles[0].name} is the nearest single encoder: the two "
        "measures disagree."
    )
