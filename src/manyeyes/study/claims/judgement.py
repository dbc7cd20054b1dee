"""Claims tried: run their arms as one study, judge each claim, write ``claims.md``.

    reproduced       the challenger is better, p < 0.05 after Holm for all claims tried together
    reversed         it is worse, by the same rule
    not separable    neither

A claim with a control is also put to that control; where the challenger is not better than it,
width alone may explain the gain. A claim about refined objects compares two lists of one arm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manyeyes.evaluation.confidence.crossed import CrossedDifference
from manyeyes.files import held, write_text
from manyeyes.study.claims.refined_objects import (
    corner_cases,
    keep_refined,
    kept_refined,
    refined_difference,
)
from manyeyes.study.claims.table import CLAIM_ARMS, AnyClaim, Claim, RefinementClaim
from manyeyes.study.comparison.compare import Settings, compare_held
from manyeyes.study.comparison.headline import constant_warning
from manyeyes.study.comparison.summary import Summary
from manyeyes.study.comparison.verdicts import (
    BETTER,
    OPEN,
    WORSE,
    Verdict,
    figure,
    judge,
    judge_differences,
    needed,
)
from manyeyes.study.comparison.written import score_text
from manyeyes.study.trials.arms import Progress
from manyeyes.study.trials.contestants import parse_arm
from manyeyes.study.trials.trial import arm_folder

PAGE_FILE = "claims.md"
OUTCOMES = {BETTER: "reproduced", WORSE: "reversed", OPEN: "not separable"}


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with the verdict on it and, where it has a control, the verdict against that."""

    claim: AnyClaim
    verdict: Verdict
    control: Verdict | None

    @property
    def outcome(self) -> str:
        """``reproduced``, ``reversed`` or ``not separable``."""
        return OUTCOMES[self.verdict.verdict]

    @property
    def figure(self) -> str:
        """The difference with its interval, and what would separate the arms if they are not."""
        more = needed(self.verdict)
        return figure(self.verdict) + (f", needs {more}" if more else "")

    @property
    def control_text(self) -> str:
        """The verdict against the control in words; empty where there is none."""
        if self.control is None:
            return ""
        return f"{self.control.verdict} {figure(self.control)} against {self.claim.control}"

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "claim": self.claim.name,
            "statement": self.claim.statement,
            "source": self.claim.source,
            "outcome": self.outcome,
            "verdict": self.verdict.to_json(),
            "control": None if self.control is None else self.control.to_json(),
        }


@dataclass(frozen=True)
class JudgedClaims:
    """All claims that were tried, and the page that says so."""

    judged: tuple[JudgedClaim, ...]
    page: Path


def run_claims(
    claims: Sequence[AnyClaim],
    out: Path,
    settings: Settings,
    *,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> JudgedClaims:
    """Run, or continue, the study that the claims need, and judge them.

    The benchmarks are those of the claims.

    Raises:
        DataError: data without the corner cases that a claim needs. Otherwise as `compare`.
    """
    with held(out):
        return _run_claims(claims, out, settings, progress, note)


def _run_claims(
    claims: Sequence[AnyClaim],
    out: Path,
    settings: Settings,
    progress: Progress | None,
    note: Callable[[str], None],
) -> JudgedClaims:
    names = dict.fromkeys(arm for claim in claims for arm in claim.arms)
    asked = [claim.benchmark for claim in claims if isinstance(claim, Claim)]
    chosen = replace(settings, benchmarks=tuple(dict.fromkeys(asked)))
    arms = [parse_arm(CLAIM_ARMS[name]) for name in names]
    if settings.data_dir is not None and len(asked) < len(claims):
        corner_cases(settings.data_dir, settings.limit)
    summary = compare_held(arms, out, chosen, progress=progress, note=note).summary
    data = out / summary.plan.data
    for claim in claims:
        if isinstance(claim, RefinementClaim):
            folder = arm_folder(claim.arm)
            keep_refined(folder, settings.seeds, out, data, limit=settings.limit, progress=progress)
    judged = tuple(judge_claims(claims, out, summary))
    page = out / PAGE_FILE
    write_text(page, claims_page(judged, summary))
    return JudgedClaims(judged, page)


def judge_claims(claims: Sequence[AnyClaim], folder: Path, summary: Summary) -> list[JudgedClaim]:
    """Return every claim's verdict; claims are one family, their controls another.

    ``folder``: of the study, for records that the summary does not hold.

    Raises:
        UsageError: an arm that the study has not. DataError: no questions of a claim, or no record
            of refined objects.
    """
    differences = {claim.question: _difference(claim, folder, summary) for claim in claims}
    verdicts = {verdict.question: verdict for verdict in judge_differences(differences)}
    asked = [q for claim in claims if (q := claim.control_question) is not None]
    controls = {verdict.question: verdict for verdict in judge(summary.scores, asked)}
    return [
        JudgedClaim(
            claim,
            verdicts[claim.question],
            None if claim.control_question is None else controls[claim.control_question],
        )
        for claim in claims
    ]


def _difference(claim: AnyClaim, folder: Path, summary: Summary) -> CrossedDifference:
    if isinstance(claim, Claim):
        return summary.scores.difference(claim.question)
    kept = kept_refined(arm_folder(claim.arm), summary.plan.seeds, folder)
    return refined_difference(kept)


def claims_page(judged: Sequence[JudgedClaim], summary: Summary) -> str:
    """Return the claims as a Markdown page."""
    plan = summary.plan
    budget = plan.budget or "the recipes' own steps"
    lines = [
        "# The papers' claims on the built-in world",
        "",
        f"{_seeds(plan.seeds)} of every arm, budget {budget}. Differences in points with 95 % "
        f"intervals over {_varied(plan.seeds)}; reproduced or reversed where p < 0.05 after Holm "
        f"for the {len(judged)} claims. *Found*: the smallest true difference that this study "
        "finds with 80 % power. [How](comparing.md) verdicts are made. The world is tiny and was "
        "not tuned towards these claims: what is not reproduced here may hold at full size.",
        "",
        *((warning, "") if (warning := constant_warning(summary)) else ()),
        "| claim | source | outcome | difference [95 %] | found | against the control |",
        "|---|---|---|---:|---:|---|",
        *map(_claim_row, judged),
        "",
        *_arm_rows(summary),
        "",
        *(f"Note: {note}." for note in summary.notes),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _seeds(count: int) -> str:
    return "One seed" if count == 1 else f"{count} seeds"


def _varied(seeds: int) -> str:
    """Over what intervals are."""
    if seeds > 1:
        return "seeds and questions"
    return "questions alone, so that the same arms trained again may come out otherwise"


def _claim_row(one: JudgedClaim) -> str:
    found = "" if one.verdict.detectable is None else f"{one.verdict.detectable:.1f}"
    claim = one.claim
    cells = (claim.statement, claim.source, one.outcome, one.figure, found, one.control_text)
    return "| " + " | ".join(cells) + " |"


def _arm_rows(summary: Summary) -> list[str]:
    """The arms with their scores: mean and standard deviation over seeds."""
    titles = summary.plan.benchmarks
    rows = ["| arm | " + " | ".join(titles.values()) + " | recipe |"]
    rows.append("|---" + "|---:" * len(titles) + "|---|")
    for arm in summary.arms:
        scores = [score_text(arm, name) for name in titles]
        rows.append(
            f"| {arm.name} | " + " | ".join(scores) + f" | `{summary.plan.arms[arm.name]}` |"
        )
    constant = [f"{summary.majority[name]:.1f}" for name in titles]
    return [*rows, "| best constant answer | " + " | ".join(constant) + " | |"]
