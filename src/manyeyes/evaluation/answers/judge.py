"""A language model behind an API as judge of answers: beside the metrics, never in their place.

    rows with prompt, references, prediction ─judge→ right, wrong or unclear ─→ share, interval
    the same rows with ``right``, marked by hand ─judge→ how often judge and hand agree

    OUT/judge/predictions-BENCHMARK.jsonl    what the judge said, one row per answer
    OUT/judge/predictions-marked.jsonl       the same of the rows marked by hand
    OUT/judge/results.json                   shares, and how often judge and hand agree

Ours; no paper judges so. What was judged once is not asked again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row
from manyeyes.errors import UsageError
from manyeyes.evaluation.answers.predictions import AnswerStore, item_key, rows_file, write_rows
from manyeyes.evaluation.confidence.intervals import estimate_mean, share_interval
from manyeyes.files import write_text
from manyeyes.inference.questions import Item, PartlyAnswered, Predictor

FOLDER, RESULTS_FILE = "judge", "results.json"
MARKED = "marked"
"""Stands for a benchmark in the name of the file of rows that were marked by hand."""

PROMPT = (
    "Question: {question}\nAccepted: {references}\nAnswer: {answer}\n"
    "Does the answer say the same as what is accepted? Reply with yes or no."
)
_CHUNK = 64

Progress = Callable[[str, int, int], None]
"""Called with what is being judged, how many answers are done, and how many there are."""


@dataclass(frozen=True)
class JudgedRow:
    """An answer to be judged. ``marked``: what a person said of it, None where nobody did."""

    id: str
    cluster: str
    question: str
    references: tuple[str, ...]
    answer: str
    marked: bool | None = None


@dataclass(frozen=True)
class Agreement:
    """Judge and hand on the same ``n`` answers, those left out on which the judge was unclear.

    ``kappa``: Cohen's, 1 for full agreement, 0 for what chance gives; None where both say the same
    of every answer. ``too_kind``: right for the judge alone; ``too_strict``: for the hand alone.
    """

    n: int
    share: float
    kappa: float | None
    too_kind: int
    too_strict: int

    @property
    def text(self) -> str:
        """One sentence."""
        kappa = "" if self.kappa is None else f", kappa {self.kappa:.2f}"
        return (
            f"the judge agrees with the hand on {100 * self.share:.0f} % of {self.n} answers"
            f"{kappa}; it is kinder on {self.too_kind} and stricter on {self.too_strict}"
        )


def judge_benchmarks(
    judge: Predictor,
    benchmarks: Sequence[str],
    out_dir: Path,
    marked: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge the answers that `evaluate` left in ``out_dir``; write and return what came out.

    ``marked``: some of those rows, marked by hand. Keys: ``model``, ``benchmarks`` (see `summary`),
    ``agreement`` (None without marks).

    Raises:
        DataError: rows that are broken or no texts. Otherwise as `judge_rows` and `agreement`.
    """
    hand = [] if marked is None else [row for row in read_rows(marked) if row.marked is not None]
    found: dict[str, Any] = {"model": dict(judge.generation), "benchmarks": {}, "agreement": None}
    for name in benchmarks:
        rows = read_rows(out_dir / rows_file(name, with_images=True))
        right = judge_rows(judge, rows, out_dir, name, progress)
        found["benchmarks"][name] = summary(rows, right)
    if marked is not None:
        agreed = agreement(hand, judge_rows(judge, hand, out_dir, MARKED, progress))
        found["agreement"] = {**asdict(agreed), "text": agreed.text}
    write_text(out_dir / FOLDER / RESULTS_FILE, json.dumps(found, indent=2) + "\n")
    return found


def read_rows(path: Path) -> list[JudgedRow]:
    """Return the answers of a file that `evaluate` wrote, with ``right`` where a row has it.

    Raises:
        DataError: a missing or broken file, or a row without prompt, references and prediction.
    """
    found = []
    for outcome in open_document(path).records():
        if isinstance(outcome, Exception):
            raise outcome
        found.append(_read_row(outcome))
    return found


def _read_row(row: Row) -> JudgedRow:
    answer, marked = row.get("prediction", "a text"), row.value.get("right")
    if not isinstance(answer, str):
        raise row.error("prediction", "expected a text: a judge reads answers in words alone")
    if not isinstance(marked, bool | None):
        raise row.error("right", f"expected true or false, got {marked!r}")
    return JudgedRow(
        id=str(row.identity("id")),
        cluster=str(row.value.get("image", row.number)),
        question=row.text("prompt"),
        references=row.texts("references"),
        answer=answer,
        marked=marked,
    )


def judge_rows(
    judge: Predictor,
    rows: Sequence[JudgedRow],
    out_dir: Path,
    benchmark: str,
    progress: Progress | None = None,
) -> list[bool | None]:
    """Return whether each answer is right by the judge; None where it says neither yes nor no.

    An empty answer is wrong without being asked about.

    Raises:
        UsageError: no rows. RequestError: the judge cannot be asked; what it said is kept.
    """
    if not rows:
        raise UsageError(f"there are no answers of {benchmark!r} to judge")
    items = [_question(row) for row in rows]
    keys = [item_key(item, fingerprint=judge.fingerprint, with_images=False) for item in items]
    folder = out_dir / FOLDER

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(f"{benchmark} (judge)", done, total)

    with AnswerStore(folder) as store:
        _ask(judge, dict(zip(keys, items, strict=True)), rows, keys, store, report)
        said = [
            store[key] if row.answer.strip() else "no" for key, row in zip(keys, rows, strict=True)
        ]
        right = [_right(text) for text in said]
        write_rows(
            folder / rows_file(benchmark, with_images=True), _written(rows, keys, said, right)
        )
    return right


def _ask(
    judge: Predictor,
    questions: Mapping[str, Item],
    rows: Sequence[JudgedRow],
    keys: Sequence[str],
    store: AnswerStore,
    report: Callable[[int, int], None],
) -> None:
    asked = dict.fromkeys(key for key, row in zip(keys, rows, strict=True) if row.answer.strip())
    waiting = [key for key in asked if key not in store]
    for start in range(0, len(waiting), _CHUNK):
        report(len(asked) - len(waiting) + start, len(asked))
        group = waiting[start : start + _CHUNK]
        try:
            said = judge.answer([questions[key] for key in group], with_images=False)
        except PartlyAnswered as error:
            store.add({group[place]: text for place, text in error.answers.items()})
            raise
        store.add(dict(zip(group, said, strict=True)))
    report(len(asked), len(asked))


def _question(row: JudgedRow) -> Item:
    text = PROMPT.format(
        question=row.question, references="; ".join(row.references), answer=row.answer
    )
    return Item(row.id, image="", prompt=text, references=("yes", "no"), cluster=row.cluster)


def _right(text: str) -> bool | None:
    words = "".join(c if c.isalpha() else " " for c in text.lower()).split()
    return {"yes": True, "no": False}.get(words[0]) if words else None


def _written(
    rows: Sequence[JudgedRow],
    keys: Sequence[str],
    said: Sequence[str],
    right: Sequence[bool | None],
) -> Iterator[dict[str, Any]]:
    for row, key, text, verdict in zip(rows, keys, said, right, strict=True):
        marked = {} if row.marked is None else {"right": row.marked}
        yield {
            "id": row.id,
            "prompt": row.question,
            "references": list(row.references),
            "prediction": row.answer,
            "judged": verdict,
            **marked,
            "raw": text,
            "key": key,
        }


def summary(rows: Sequence[JudgedRow], right: Sequence[bool | None]) -> dict[str, Any]:
    """Return the share of right answers in points; where the judge is unclear, they are wrong.

    Keys: ``right``, ``ci95`` (None where nothing varies enough to say), ``n``, ``unclear``.
    """
    clusters = [row.cluster for row in rows]
    found = estimate_mean([float(verdict is True) for verdict in right], clusters)
    interval = share_interval(found)
    return {
        "right": 100 * found.mean,
        "ci95": None if interval is None else [100 * bound for bound in interval],
        "n": found.n,
        "unclear": sum(verdict is None for verdict in right),
    }


def agreement(rows: Sequence[JudgedRow], right: Sequence[bool | None]) -> Agreement:
    """Compare the judge with what was marked by hand.

    Raises:
        UsageError: nothing is marked, or the judge is unclear about all of it.
    """
    pairs = [(verdict, row.marked) for row, verdict in zip(rows, right, strict=True)]
    clear = [(v, m) for v, m in pairs if v is not None and m is not None]
    if not clear:
        raise UsageError(
            'no row that the judge is clear about is marked with "right": true or false'
        )
    n = len(clear)
    share = sum(v == m for v, m in clear) / n
    judged, marked = sum(v for v, _ in clear) / n, sum(m for _, m in clear) / n
    chance = judged * marked + (1 - judged) * (1 - marked)
    return Agreement(
        n=n,
        share=share,
        kappa=None if chance == 1.0 else (share - chance) / (1 - chance),
        too_kind=sum(v and not m for v, m in clear),
        too_strict=sum(m and not v for v, m in clear),
    )
