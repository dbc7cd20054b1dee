"""How well the cheap figures had predicted: ``choose.json`` against a finished comparison.

Every arm whose encoders are candidates of the choice is looked up; arms with the same set are one
point, at the mean of their scores, because the choice knows encoders and no fusions. Over these
points stands Spearman's rank correlation. Below four it says nothing, and none is given.

    OUT/judged.json   arms, figures, correlations      report.html, table.md   made again with them
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from manyeyes.errors import DataError, ManyEyesError
from manyeyes.evaluation.confidence.ranks import EXACT, LEAST, RankCorrelation, rank_correlation
from manyeyes.files import write_text
from manyeyes.lines import with_minus
from manyeyes.recipes import load_recipe
from manyeyes.study.choosing.record import Choice, ChosenEncoder
from manyeyes.study.choosing.written import write_pages
from manyeyes.study.comparison.summary import ArmSummary, Summary
from manyeyes.study.trials.contestants import parse_arm

JUDGED_FILE = "judged.json"
SCORE, GW, PROBE = "score", "GW", "probe"
OVERALL = "mean of all benchmarks"


@dataclass(frozen=True)
class JudgedSet:
    """One set: the ``arms`` that had it, their mean score in points by benchmark, and what was
    predicted of it (larger = better; GW with its sign turned)."""

    encoders: tuple[str, ...]
    arms: tuple[str, ...]
    trained: Mapping[str, float]
    predicted: Mapping[str, float]


@dataclass(frozen=True)
class Prediction:
    """How one cheap figure ordered the sets of a benchmark."""

    predictor: str
    benchmark: str
    found: RankCorrelation


@dataclass(frozen=True)
class Judgement:
    """``left_out``: arm -> why nothing had been predicted of it."""

    sets: tuple[JudgedSet, ...]
    predictions: tuple[Prediction, ...]
    left_out: Mapping[str, str]

    def sentences(self) -> list[str]:
        """What it says, overall first; the other benchmarks after it."""
        said = [self._first()]
        said += [text for one in self.predictions if (text := _sentence(one))]
        said += [f"{arm} is left out: {why}." for arm, why in self.left_out.items()]
        return said

    def _first(self) -> str:
        n = len(self.sets)
        order = " > ".join(" + ".join(one.encoders) for one in _by(self.sets, SCORE))
        trained = " > ".join(" + ".join(one.encoders) for one in _by(self.sets, None))
        text = f"Predicted order: {order}. Trained order: {trained}."
        if n < LEAST:
            return f"{text} {n} sets are too few for a rank correlation; {LEAST} are needed."
        return text


def judge_choice(choice: Choice, study: Summary) -> Judgement:
    """Set what was chosen before training against what training made of it.

    Raises:
        DataError: fewer than two arms have encoders of this choice.
    """
    sets: dict[tuple[str, ...], list[ArmSummary]] = {}
    left_out: dict[str, str] = {}
    for arm in study.arms:
        names = _encoders_of(choice, arm)
        if isinstance(names, str):
            left_out[arm.name] = names
        else:
            sets.setdefault(names, []).append(arm)
    if len(sets) < 2:
        why = "; ".join(f"{arm}: {reason}" for arm, reason in left_out.items())
        raise DataError(
            f"the study trained {len(sets)} of this choice's sets; two are needed ({why})"
        )
    titles = study.plan.benchmarks
    judged = tuple(_judged(choice, names, arms, titles) for names, arms in sets.items())
    benchmarks = [OVERALL, *(titles.values() if len(titles) > 1 else ())]
    predictions = [
        found
        for predictor in (SCORE, GW, PROBE)
        for benchmark in benchmarks
        if (found := _prediction(judged, predictor, benchmark)) is not None
    ]
    return Judgement(judged, tuple(predictions), left_out)


def write_judgement(judgement: Judgement, choice: Choice, out: Path) -> None:
    """Write ``judged.json``, and the choice's table and page again with what was found."""
    text = json.dumps(asdict(judgement), indent=1, ensure_ascii=False)
    write_text(out / JUDGED_FILE, text + "\n")
    write_pages(choice, out, judgement.sentences())


def _encoders_of(choice: Choice, arm: ArmSummary) -> tuple[str, ...] | str:
    """Names of the candidates that an arm reads, in the choice's order; or why there are none."""
    if arm.asked is not None:
        return "it was only asked, not trained"
    if arm.blind:
        return "it does not see the image"
    try:
        contestant = parse_arm(arm.recipe)
        model = load_recipe(contestant.recipe, contestant.settings).model
    except ManyEyesError as error:
        return f"its recipe cannot be read here ({error})"
    found = []
    for entry in model.get("encoders", []):
        name = _candidate(choice.encoders, entry, contestant.recipe)
        if name is None:
            return f"its encoder {entry.get('name')!r} is none of this choice"
        found.append(name)
    order = [encoder.name for encoder in choice.encoders]
    return tuple(sorted(set(found), key=order.index)) or "it has no encoder"


def _candidate(
    encoders: Sequence[ChosenEncoder], entry: Mapping[str, object], recipe: str
) -> str | None:
    """The candidate of an entry's family and checkpoint; of several levels that of the recipe."""
    key = entry.get("family"), entry.get("checkpoint", "")
    alike = [one for one in encoders if (one.family, one.checkpoint) == key]
    own = [one for one in alike if one.source == recipe]
    return (own or alike)[0].name if alike else None


def _judged(
    choice: Choice,
    names: tuple[str, ...],
    arms: Sequence[ArmSummary],
    titles: Mapping[str, str],
) -> JudgedSet:
    trained = {
        title: statistics.fmean(arm.means[benchmark] for arm in arms)
        for benchmark, title in titles.items()
    }
    predicted = {SCORE: choice.score_of(names)}
    ranked = next((one for one in choice.sets if one.encoders == names), None)
    if ranked is not None and ranked.distortion is not None:
        predicted[GW] = -ranked.distortion.value
    probes = next(one for one in choice.encoders if one.name == names[0]).probes
    if len(names) == 1 and probes:
        predicted[PROBE] = statistics.fmean(figure.value for figure in probes.values())
    overall = statistics.fmean(trained.values())
    return JudgedSet(
        names, tuple(arm.name for arm in arms), {OVERALL: overall, **trained}, predicted
    )


def _prediction(sets: Sequence[JudgedSet], predictor: str, benchmark: str) -> Prediction | None:
    """None where the predictor has no figure of most sets, or orders too few."""
    known = [one for one in sets if predictor in one.predicted]
    if predictor != SCORE and len(known) < LEAST:
        return None
    predicted = [one.predicted[predictor] for one in known]
    trained = [one.trained[benchmark] for one in known]
    return Prediction(predictor, benchmark, rank_correlation(predicted, trained))


def _by(sets: Sequence[JudgedSet], predictor: str | None) -> list[JudgedSet]:
    if predictor is None:
        return sorted(sets, key=lambda one: -one.trained[OVERALL])
    return sorted(sets, key=lambda one: -one.predicted[predictor])


def _sentence(one: Prediction) -> str:
    """A correlation with what tells it from chance; "" where there is none."""
    found = one.found
    if found.rho is None or found.chance is None or found.p is None:
        return ""
    low, high = found.ci95 or found.chance
    span = f"[{low:.2f}, {high:.2f}]"
    said = f"95 % interval {span}" if found.ci95 else f"chance alone gives {span} in 95 % of orders"
    exact = "exact " if found.n <= EXACT else ""
    text = f"{one.predictor} and {one.benchmark}: rank correlation {found.rho:.2f} over {found.n} "
    return with_minus(f"{text}sets ({said}; {exact}p = {_p(found.p)}).")


def _p(p: float) -> str:
    """Return a p value as it is said."""
    return f"{p:.3f}" if p >= 0.001 else "below 0.001"
