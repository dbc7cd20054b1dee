"""Whether any arm of a study knows more than the best constant answer does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def below_constant(scores: Mapping[str, tuple[Sequence[float], float]]) -> str:
    """Return a sentence about benchmarks where all arms are below the constant answer, or "".

    ``scores``: benchmark's title -> (every arm's score, that of the best constant answer). What
    separates arms there is hardly what they see.
    """
    parts = [
        f"{title} ({max(arms):.1f} at best, against {constant:.1f})"
        for title, (arms, constant) in scores.items()
        if max(arms) < constant
    ]
    if not parts:
        return ""
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"All arms score below the best constant answer on {listed}."
