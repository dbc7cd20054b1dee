"""Items that a report shows with their pictures: which ones, and what every arm said to them."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from manyeyes.conversation.boxes import parse_boxes
from manyeyes.errors import ImageError
from manyeyes.records import Box
from manyeyes.study.comparison.summary import ArmSummary, Summary
from manyeyes.study.pages import pictures
from manyeyes.study.pages.page import PALETTE, AnswerRow, PictureCard, answer_row
from manyeyes.study.record import Answer, StudyItem
from manyeyes.study.trials.trial import Trial, kept_picture

BREAKDOWNS = ("question_type", "set")
"""Breakdowns that a card names and that are shown as bars: the first that an item has."""

SHOWN = 8
RULE = (
    f"The {SHOWN} questions of each benchmark on which the arms' scores, averaged over seeds, "
    "differ most; ties are decided by a hash of the question's id."
)


def card_rule(summary: Summary) -> str:
    """Return how the items were chosen, and whose answers are shown."""
    rule = RULE if summary.plan.presentation is None else pictures.RULE
    if summary.plan.seeds == 1:
        return rule
    return (
        f"{rule} Texts, boxes and marks are those of the first seed; behind them stands what all "
        f"{summary.plan.seeds} seeds got."
    )


def averaged(summary: Summary) -> list[StudyItem]:
    """Return the items that all trials scored; an answer's score is its arm's mean over seeds."""
    found = []
    for benchmark in summary.plan.benchmarks:
        for item in summary.scores.counted(benchmark):
            answers = {arm.name: _answer(item, arm.trials) for arm in summary.arms}
            found.append(StudyItem(**{**vars(item), "answers": answers}))
    return found


def _answer(item: StudyItem, trials: Sequence[Trial]) -> Answer:
    said = [trial.answers[item.benchmark][item.id] for trial in trials]
    boxes: tuple[Box, ...] = ()
    if item.target is not None and item.size is not None:
        width, height = item.size
        style = trials[0].box_style
        groups = parse_boxes(said[0].text, style=style, width=width, height=height)
        boxes = tuple(box for group in groups for box in group)
    return Answer(said[0].text, statistics.fmean(s.score for s in said), boxes)


def picture_cards(
    folder: Path,
    summary: Summary,
    items: Sequence[StudyItem],
    colours: Mapping[str, str],
    numbers: Mapping[str, str],
) -> dict[str, list[PictureCard]]:
    """Return the cards of every benchmark, by its title; ``items`` as of `averaged`.

    Raises:
        ImageError: a picture is neither in the records nor in the data.
    """
    cards = {}
    for benchmark, title in summary.plan.benchmarks.items():
        group = [item for item in items if item.benchmark == benchmark]
        chosen = _chosen(summary, group)
        if chosen:
            cards[title] = [_card(folder, summary, one, colours, numbers) for one in chosen]
    return cards


def _chosen(summary: Summary, items: Sequence[StudyItem]) -> list[pictures.Chosen]:
    """The items to show: most disputed, or of a study about one arm every kind of them."""
    presented = summary.plan.presentation
    if presented is None:
        return pictures.most_disputed(items, SHOWN)
    other = next(name for name in summary.plan.compared if name != presented.challenger)
    pair = (presented.challenger, other)
    return pictures.choose(items, pair, seed=summary.plan.first_seed)


def _card(
    folder: Path,
    summary: Summary,
    chosen: pictures.Chosen,
    colours: Mapping[str, str],
    numbers: Mapping[str, str],
) -> PictureCard:
    item = chosen.item
    kept = [_kept_picture(folder, summary, image) for image in item.images]
    return PictureCard(
        picture=pictures.pictures(folder, kept, item.cluster, _boxes(summary, item)),
        reason=chosen.reason,
        question=item.question,
        truth=item.truth,
        group=next((item.groups[kind] for kind in BREAKDOWNS if kind in item.groups), ""),
        answers=tuple(
            _row(item, arm, colours[arm.name], numbers[arm.name]) for arm in summary.arms
        ),
    )


def _boxes(summary: Summary, item: StudyItem) -> dict[str, list[Box]]:
    """CSS class -> boxes: the truth's, and of up to six arms what they and blind arms said."""
    boxes: dict[str, list[Box]] = {"truth": [item.target] if item.target else []}
    if len(summary.compared) > PALETTE:  # more could not be told apart
        return boxes
    for place, arm in enumerate(summary.compared):
        boxes[f"arm{place}"] = list(item.answers[arm.name].boxes)
    boxes["blind"] = [
        box for arm in summary.arms if arm.blind for box in item.answers[arm.name].boxes
    ]
    return boxes


def _row(item: StudyItem, arm: ArmSummary, colour: str, number: str) -> AnswerRow:
    """The first seed's answer with its own mark; behind it, of several seeds, what all got."""
    scores = [trial.answers[item.benchmark][item.id].score for trial in arm.trials]
    first = Answer(item.answers[arm.name].text, scores[0], item.answers[arm.name].boxes)
    return answer_row(
        arm.title, first, colour, number, target=item.target, note=_over_seeds(scores)
    )


def _over_seeds(scores: Sequence[float]) -> str:
    """``2 of 3 seeds right``, or where answers are scored in parts ``3 seeds: mean 41``."""
    if len(scores) == 1:
        return ""
    if all(score in (0.0, 1.0) for score in scores):
        return f"{sum(scores):.0f} of {len(scores)} seeds right"
    return f"{len(scores)} seeds: mean {100 * statistics.fmean(scores):.0f}"


def _kept_picture(folder: Path, summary: Summary, image: str) -> str:
    """Copy an item's image into the records, once; return its path relative to ``folder``."""
    kept = kept_picture(image)
    if not (folder / kept).is_file():
        source = folder / summary.plan.data / image
        if not source.is_file():
            raise ImageError("no such picture, and none in the records", file=str(source))
        (folder / kept).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / kept)
    return kept.as_posix()
