"""Visual Dialog (Das et al. 2017): rank 100 candidate answers in every round of a dialog.

Files: ``visdial_1.0_{split}.json`` and, for NDCG, ``visdial_1.0_{split}_dense_annotations.json``
(one round of each dialog, with the relevance of every candidate). MRR, recall at 1, 5 and 10 and
mean rank look at the rank of the human answer. Figures are 0 to 100, but for the mean rank.

A prediction is a ranking: ``ranks``, the rank of each candidate from 1, as the challenge has it, or
``losses``, of which the smallest is first. A text ranks the human answer first if it is that answer
in any letter case and without a final period, else last (ours); it has no NDCG.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from manyeyes.data.containers.rows import Row, show
from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks.choices import from_losses, parse_losses
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import Source, find_file, placed
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.results import is_own, own_prediction, result_rows
from manyeyes.evaluation.benchmarks.visdial_files import read_dialogs, read_relevance, round_key
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.scorers.exact_match import exact_match
from manyeyes.evaluation.scorers.ranking import ndcg, ranks_of_losses
from manyeyes.inference.questions import Item
from manyeyes.records import Score

PROMPT = "Dialog about the image: {dialog}\nQuestion: {question}\nShort answer:"
_DIALOGS = placed("visdial_1.0_{split}.json")
_DENSE = placed("visdial_1.0_{split}_dense_annotations.json")
FILES = (*_DIALOGS, *_DENSE)
DEPTHS = (1, 5, 10)


def locate(source: Source) -> list[Path]:
    """The dialogs, and the dense annotations where they are."""
    dialogs = find_file(source, _DIALOGS, "VisDial dialogs")
    dense = [source.data_dir / name.format(split=source.split) for name in _DENSE]
    return [dialogs, *[path for path in dense if path.is_file()][:1]]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per round; ids are ``IMAGE_ID/ROUND``, rounds counted from 1."""
    if len(paths) not in (1, 2):
        files = ", ".join(map(str, paths))
        raise UsageError(f"expected dialogs and perhaps dense annotations, got {files}")
    return read_dialogs(paths[0], prompt, read_relevance(paths[1]) if len(paths) > 1 else {})


def grade(answers: Answers) -> Grade:
    """MRR (headline), recall at 1, 5 and 10, mean rank, and NDCG where relevances are known."""
    items = answers.items
    given = list(zip(items, answers.predictions, strict=True))
    rankings = [None if p is None or isinstance(p, str) else _ranks(i, p) for i, p in given]
    places = [
        _place_of_text(i, p) if ranks is None else ranks[i.meta["right"]]
        for (i, p), ranks in zip(given, rankings, strict=True)
    ]
    answered = [p is not None for p in answers.predictions]
    reciprocal = [r / place for r, place in zip(map(float, answered), places, strict=True)]
    scores = [mean_score("MRR", reciprocal, items)]
    for depth in DEPTHS:
        hits = [float(a and p <= depth) for a, p in zip(answered, places, strict=True)]
        scores.append(mean_score(f"R@{depth}", hits, items))
    scores.append(mean_score("mean_rank", list(map(float, places)), items, scale=1.0))
    scores += _dense_scores(items, rankings)
    failures = sum(isinstance(p, str) and _unknown(i, p) for i, p in given)
    texts = sum(isinstance(p, str) for p in answers.predictions)
    note = f"{texts} written answers: the human answer is ranked first or last, without NDCG"
    return Grade(tuple(scores), reciprocal, failures, (note,) if texts else ())


def load(path: Path) -> dict[str, Prediction]:
    """Rows ``{image_id, round_id, ranks}`` of the challenge; ``losses`` may stand for ranks."""
    found: dict[str, Prediction] = {}
    for row in result_rows(path):
        own = is_own(row)
        key = row.text("id") if own else _row_key(row)
        if key in found:
            raise row.error("round_id", f"{key!r} occurs twice; expected one ranking per round")
        if own:
            found[key] = own_prediction(row)
        else:
            found[key] = parse_losses(row, "losses") if "losses" in row.value else _parsed(row)
    return found


def _row_key(row: Row) -> str:
    round_id = row.get("round_id", "a round, counted from 1")
    if isinstance(round_id, bool) or not isinstance(round_id, int):
        raise row.error("round_id", f"expected a whole number, got {show(round_id)}")
    return round_key(row.identity("image_id"), round_id)


def _parsed(row: Row) -> Prediction:
    ranks = row.items("ranks", "the rank of each candidate")
    if not all(type(rank) is int for rank in ranks) or sorted(ranks) != list(
        range(1, len(ranks) + 1)
    ):
        raise row.error("ranks", f"expected each rank from 1 once, got {show(ranks)}")
    return {"ranks": ranks}


def _ranks(item: Item, prediction: Prediction) -> list[int]:
    """The rank of each candidate; DataError if they are not as many as the item has."""
    if not isinstance(prediction, Mapping) or not {"ranks", "losses"} & prediction.keys():
        raise DataError(f"expected ranks or losses as the prediction for {item.id!r}")
    losses = prediction.get("losses")
    ranks = prediction["ranks"] if losses is None else ranks_of_losses(losses)
    if len(ranks) != len(item.candidates):
        message = f"{len(item.candidates)} candidates for {item.id!r}, but {len(ranks)} are ranked"
        raise DataError(message)
    return list(ranks)


def _place_of_text(item: Item, prediction: Prediction | None) -> int:
    right = isinstance(prediction, str) and _is(prediction, item.references[0])
    return 1 if right else len(item.candidates)


def _unknown(item: Item, answer: str) -> bool:
    return not any(_is(answer, candidate) for candidate in item.candidates)


def _is(answer: str, candidate: str) -> bool:
    return exact_match(answer, candidate, "relaxed") == 1.0


def _dense_scores(items: Sequence[Item], rankings: Sequence[list[int] | None]) -> list[Score]:
    """NDCG over the rounds with relevances; none where only texts were given."""
    dense = [p for p, item in enumerate(items) if item.meta["relevance"] is not None]
    if not any(rankings[place] for place in dense):
        return []
    values = [ndcg(rankings[p] or [], items[p].meta["relevance"]) for p in dense]
    return [mean_score("NDCG", values, [items[place] for place in dense])]


def _by_frequency(
    items: Sequence[Item], counted: Sequence[Item], box_style: str
) -> list[Prediction]:
    """Candidates in the order of how often they are the human answer."""
    counts = Counter(item.references[0] for item in counted)
    return [{"losses": [-float(counts[answer]) for answer in item.candidates]} for item in items]


BENCHMARK = Benchmark(
    name="visdial",
    description="ranking 100 answers in every round of a dialog (VisDial 1.0)",
    metric="MRR",
    variants=("official",),
    prompt=PROMPT,
    answer="short",
    files=FILES,
    result_format='[{"image_id": ..., "round_id": 1, "ranks": [100 ranks]}]',
    locate=locate,
    read=read,
    grade=grade,
    constant=_by_frequency,
    load=load,
    from_losses=from_losses,
)
