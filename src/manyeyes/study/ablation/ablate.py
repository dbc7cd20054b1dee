"""Which encoder, tag or box a trained model could do without: asked again with each masked.

    OUT/whole/                 answers of the whole model, with and without the image
    OUT/<part> (<mask>)/       answers with a part masked
    OUT/results.json  table.md

Repeating a stopped run continues it: answers on disk are not made again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from manyeyes.data.annotations.objects import ObjectTable, read_object_table
from manyeyes.encoders import Encoder
from manyeyes.errors import UsageError, nearest
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.files import write_text
from manyeyes.inference.masks import DONORS, MASKS, MaskedPredictor
from manyeyes.inference.perceived import tags_from_file
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item, Predictor
from manyeyes.lines import split_lines
from manyeyes.records import USES
from manyeyes.study.ablation.utility import (
    HARMFUL,
    MARGIN,
    OPEN,
    REDUNDANT,
    USEFUL,
    GroupUtility,
    adjusted,
    utilities,
)

logger = logging.getLogger(__name__)

RESULTS_FILE, TABLE_FILE, WHOLE, ALL = "results.json", "table.md", "whole", "all items"
ORACLE = "oracle"
ORACLE_VERDICTS = {
    HARMFUL: "the truth helps",
    USEFUL: "the truth hurts",
    REDUNDANT: "the truth changes nothing",
    OPEN: OPEN,
}
"""Verdicts where a part is not taken away but replaced by the truth."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Ablation:
    """What is asked. ``subsets``: mask every subset of encoders, not just each and all of them.

    ``objects``, ``tags``: files of true (or other) objects and tags, images relative to
    ``data_dir / "images"``. ``margin``: see ``utility``.
    """

    benchmarks: Sequence[str]
    data_dir: Path
    split: str
    out: Path
    limit: int | None = None
    masks: Sequence[str] = tuple(MASKS)
    subsets: bool = False
    objects: Path | None = None
    tags: Path | None = None
    margin: float = MARGIN

    def items(self, benchmark: str) -> list[Item]:
        """Return the questions of one benchmark."""
        return get_benchmark(benchmark).items(self.data_dir, self.split, limit=self.limit)


@dataclass(frozen=True)
class Condition:
    """One way to ask: the part that is changed, how, and who answers."""

    part: str
    how: str
    predictor: Predictor
    single: bool = False
    """Whether exactly one encoder is masked."""

    @property
    def name(self) -> str:
        return f"{self.part} ({self.how})"


@dataclass(frozen=True)
class AblationResult:
    """``found``: benchmark -> how -> group (``all items`` first) -> utilities.

    ``blind``: benchmark -> mean item score without the image.
    """

    found: Mapping[str, Mapping[str, Mapping[str, GroupUtility]]]
    blind: Mapping[str, float]
    facts: Mapping[str, Any] = field(default_factory=dict)


Prompted = Callable[[ModelPredictor, Ablation, Sequence[str]], Iterator[Condition]]


def _objects(base: ModelPredictor, plan: Ablation, images: Sequence[str]) -> Iterator[Condition]:
    """Objects that the prompt names: none, and from a file the true ones and another image's."""
    if base.processor.perception.writer is None:
        return
    none = ObjectTable(dict.fromkeys(images, ()), "no objects")
    yield Condition("objects", "empty", base.with_perceived(replace(base.perceived, objects=none)))
    if plan.objects is not None:
        table = read_object_table(plan.objects, plan.data_dir / "images")
        for use in ("given", "shuffled"):
            changed = replace(base.perceived, objects=table.used_as(use, seed=0))
            how = ORACLE if use == "given" else use
            yield Condition("objects", how, base.with_perceived(changed))


def _tags(base: ModelPredictor, plan: Ablation, images: Sequence[str]) -> Iterator[Condition]:
    """Tags that the prompt names: none, and from a file the true ones and another image's."""
    if base.model.config.tags == "none":
        return
    for use in USES:
        if use == "empty" or plan.tags is not None:
            tags = tags_from_file(plan.tags, plan.data_dir / "images", use)
            changed = base.with_perceived(replace(base.perceived, tags=tags))
            yield Condition("tags", ORACLE if use == "given" else use, changed)


PROMPTED: Mapping[str, Prompted] = {"objects": _objects, "tags": _tags}
"""What is written into prompts -> the conditions in which it is changed."""


def conditions(base: ModelPredictor, plan: Ablation, images: Sequence[str]) -> list[Condition]:
    """Return everything that is changed: encoders by every mask, then what prompts hold.

    Raises:
        UsageError: an unknown mask, a file for what the model does not read, too few images.
    """
    for name in plan.masks:
        if name not in MASKS:
            hint = nearest(name, MASKS)
            raise UsageError(f"unknown mask {name!r}{hint}; known: {', '.join(MASKS)}")
    found: list[Condition] = []
    encoders: dict[str, Encoder] = {
        name: base.model.encoders[name] for name in base.processor.pixels.fused
    }
    for how in plan.masks:
        mask = MASKS[how](base, images[:DONORS])
        suited = [name for name, encoder in encoders.items() if mask.suits(encoder)]
        if others := [name for name in encoders if name not in suited]:
            logger.warning("mask %r does not suit %s and leaves it out", how, ", ".join(others))
        for names in _chosen(suited, plan.subsets) if suited else ():
            predictor = MaskedPredictor(base, names, mask)
            found.append(Condition(" + ".join(names), how, predictor, len(names) == 1))
    for part, changed in PROMPTED.items():
        more = list(changed(base, plan, images))
        if not more and getattr(plan, part) is not None:
            raise UsageError(f"--{part}: the model reads no {part}")
        found += more
    return found


def _chosen(names: Sequence[str], subsets: bool) -> list[tuple[str, ...]]:
    """Each name, then all together; or every subset."""
    sizes = range(1, len(names) + 1) if subsets else sorted({1, len(names)})
    return [group for size in sizes for group in combinations(names, size)]


def ablate(
    base: ModelPredictor, plan: Ablation, progress: Progress | None = None
) -> AblationResult:
    """Ask the whole model and every condition, and judge what each part is worth.

    Raises:
        UsageError, DataError: see ``evaluate`` and ``conditions``.
    """
    items = {name: plan.items(name) for name in plan.benchmarks}
    images = list(dict.fromkeys(item.image for each in items.values() for item in each))
    asked = conditions(base, plan, images)
    whole = _ask(base, plan, WHOLE, progress, text_only=True)
    masked = {
        condition.name: _ask(condition.predictor, plan, condition.name, progress)
        for condition in asked
    }
    found = {
        name: _judged(items[name], whole[name], {c: s[name] for c, s in masked.items()}, asked)
        for name in plan.benchmarks
    }
    blind = {name: _mean(_scores(plan.out / WHOLE, name, text_only=True)) for name in items}
    facts = {"data": str(plan.data_dir), "split": plan.split, "limit": plan.limit}
    flat = adjusted(
        {
            (name, how, group): entry
            for name, by_how in found.items()
            for how, groups in by_how.items()
            for group, entry in groups.items()
        },
        plan.margin,
    )
    judged: dict[str, dict[str, dict[str, GroupUtility]]] = {}
    for (name, how, group), entry in flat.items():
        told = _in_other_words(entry) if how == ORACLE else entry
        judged.setdefault(name, {}).setdefault(how, {})[group] = told
    return AblationResult(judged, blind, {**facts, "margin": plan.margin})


def _in_other_words(entry: GroupUtility) -> GroupUtility:
    """Verdicts where a part was replaced by the truth."""
    parts = {
        name: replace(part, verdict=ORACLE_VERDICTS[part.verdict])
        for name, part in entry.parts.items()
    }
    return replace(entry, parts=parts)


Scores = Mapping[str, float]
"""Item id -> score."""


def _ask(
    predictor: Predictor,
    plan: Ablation,
    folder: str,
    progress: Progress | None,
    *,
    text_only: bool = False,
) -> dict[str, Scores]:
    """Answer all benchmarks in one condition; return benchmark -> item scores."""

    def told(label: str, done: int, total: int) -> None:
        if progress is not None:
            progress(f"{folder}: {label}", done, total)

    out = plan.out / folder
    evaluate(
        predictor,
        plan.benchmarks,
        plan.data_dir,
        plan.split,
        out,
        limit=plan.limit,
        text_only=text_only,
        progress=told,
    )
    return {name: _scores(out, name) for name in plan.benchmarks}


def _scores(out: Path, benchmark: str, *, text_only: bool = False) -> Scores:
    """Read item scores back; those that the metric leaves out have none."""
    file = out / f"predictions-{benchmark}{'.text-only' if text_only else ''}.jsonl"
    rows = map(json.loads, split_lines(file.read_text(encoding="utf-8")))
    return {row["id"]: float(row["score"]) for row in rows if row["score"] is not None}


def _mean(scores: Scores) -> float:
    return sum(scores.values()) / max(1, len(scores))


def _judged(
    items: Sequence[Item],
    whole: Scores,
    masked: Mapping[str, Scores],
    asked: Sequence[Condition],
) -> dict[str, dict[str, GroupUtility]]:
    """Utilities by kind of change and by group of items."""
    groups = {ALL: [item for item in items if item.id in whole]}
    for item in groups[ALL]:
        for breakdown, value in item.groups.items():
            groups.setdefault(f"{breakdown}: {value}", []).append(item)
    found: dict[str, dict[str, GroupUtility]] = {}
    for how in dict.fromkeys(condition.how for condition in asked):
        kind = [condition for condition in asked if condition.how == how]
        found[how] = {
            group: utilities(
                [whole[item.id] for item in members],
                {c.part: [masked[c.name][item.id] for item in members] for c in kind},
                [item.cluster for item in members],
                compared=[c.part for c in kind if c.single],
            )
            for group, members in groups.items()
        }
    return found


def write_ablation(result: AblationResult, out: Path) -> None:
    """Write ``results.json`` and ``table.md``."""
    record = json.dumps(asdict(result), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(out / RESULTS_FILE, record + "\n")
    write_text(out / TABLE_FILE, ablation_table(result))


def ablation_table(result: AblationResult) -> str:
    """Return markdown: per benchmark, kind of change and group, what every part is worth."""
    lines = ["# What each part is worth", "", *(f"- {note}" for note in notes(result)), ""]
    for benchmark, by_how in result.found.items():
        lines += [f"## {benchmark}", "", f"Without the image: {_percent(result.blind[benchmark])}."]
        for how, groups in by_how.items():
            lines += ["", f"### {how}", "", f"| {' | '.join(_HEAD)} |", "|---" * len(_HEAD) + "|"]
            for group, entry in groups.items():
                for part, found in entry.parts.items():
                    cells = [
                        f"{group} (n = {entry.n})",
                        part,
                        _percent(entry.score),
                        _percent(found.masked_score),
                        _interval(found.cur, found.cur_ci95),
                        _interval(entry.gap, entry.gap_ci95),
                        found.verdict,
                    ]
                    lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


_HEAD = ("items", "changed", "whole, %", "changed, %", "CUR, % [95 %]", "IG, % [95 %]", "verdict")


def notes(result: AblationResult) -> list[str]:
    """Return what the figures mean, and which encoder is harmful or redundant by which mask."""
    lines = []
    for benchmark, by_how in result.found.items():
        for how, groups in by_how.items():
            for part, found in groups[ALL].parts.items():
                if found.verdict in (HARMFUL, REDUNDANT):
                    rate = _interval(found.cur, found.cur_ci95)
                    lines.append(f"{benchmark}, {how}: {part} is {found.verdict}, CUR {rate} %.")
    margin = 100 * float(result.facts.get("margin", MARGIN))
    return [
        *lines,
        "CUR = (whole - changed) / whole, IG = largest minus smallest CUR of single encoders; "
        "intervals from a bootstrap over images, p adjusted after Holm over all rows. Redundant: "
        f"surely within {margin:g} % of the score. A masked model has not been trained without the "
        "part: what it could learn without it is another question.",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _interval(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "-"
    if interval is None:
        return _percent(value)
    return f"{_percent(value)} [{_percent(interval[0])}, {_percent(interval[1])}]"
