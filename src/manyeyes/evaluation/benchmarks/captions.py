"""Captions against reference captions: items, grader and baseline of the captioning benchmarks.

CIDEr-D, BLEU-1..4, ROUGE-L and, where Java and pycocoevalcap are installed, METEOR, on the metrics'
own scales; papers print them times 100. CIDEr depends on the set of images it is computed over, so
a score over a part of a split is another metric and says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from manyeyes.data.readers.prompts import CAPTION_PROMPT
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade, evenly
from manyeyes.evaluation.benchmarks.files import load_samples
from manyeyes.evaluation.benchmarks.measures import Corpus, corpus_scores, mean_score
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.confidence.intervals import FloatArray
from manyeyes.evaluation.scorers.bleu import bleu_corpus
from manyeyes.evaluation.scorers.cider import CiderCorpus, cider_corpus
from manyeyes.evaluation.scorers.meteor import MeteorCorpus, meteor_corpus, missing_for_meteor
from manyeyes.evaluation.scorers.ptb import ptb_tokens
from manyeyes.evaluation.scorers.rouge import rouge_l
from manyeyes.inference.questions import Item

PROMPT = CAPTION_PROMPT
RESULT_FORMAT = '[{"image_id": ..., "caption": "..."}]'
load_captions = text_loader("image_id", "caption")

_CORPUS_METRICS = ("CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")
_COUNTED = 100
_CANDIDATES = 16


def caption_item(
    identity: str,
    image: str,
    references: Sequence[str],
    prompt: str,
    *,
    images: int,
    groups: Mapping[str, str] | None = None,
    split: str | None = None,
) -> Item:
    """One image to be captioned; ``images`` is how many its split has."""
    return Item(
        id=identity,
        image=image,
        prompt=prompt,
        references=tuple(references),
        cluster=identity,
        answer="caption",
        groups=groups or {},
        split=split,
        meta={"images": images},
    )


def caption_benchmark(
    name: str,
    description: str,
    *,
    files: tuple[str, ...],
    holds: str,
    read_one: Callable[[Path, str], list[Item]],
    grade: Callable[[Answers], Grade] | None = None,
    result_format: str = RESULT_FORMAT,
) -> Benchmark:
    """Captions of one file per split; ``grade`` is `grade_captions` unless given."""
    return Benchmark(
        name=name,
        description=description,
        metric="CIDEr",
        prompt=PROMPT,
        answer="caption",
        files=files,
        holds=holds,
        result_format=result_format,
        read_one=read_one,
        grade=grade or grade_captions,
        constant=central_caption,
        load=load_captions,
    )


def read_coco_captions(
    path: Path, prompt: str, groups: Mapping[str, Mapping[str, str]] | None = None
) -> list[Item]:
    """One item per image with captions of a COCO captions file; ``groups`` by image id."""
    samples = {str(s.meta["image_id"]): s for s in load_samples(path, "coco_captions")}
    return [
        caption_item(
            identity,
            sample.images[0],
            sample.meta["references"],
            prompt,
            images=len(samples),
            groups=(groups or {}).get(identity),
        )
        for identity, sample in samples.items()
    ]


def grade_captions(answers: Answers) -> Grade:
    """CIDEr (CIDEr-D, headline), BLEU-1..4, ROUGE-L and METEOR; item scores are CIDEr-D."""
    missing = missing_for_meteor()
    if missing is None:
        candidates, references = _tokens(answers)
        return _grade(answers, meteor_corpus(candidates, references), ())
    return _grade(answers, None, (f"METEOR is left out: {missing}",))


def grade_without_meteor(answers: Answers) -> Grade:
    """`grade_captions` without METEOR, wherever it runs."""
    return _grade(answers, None, ())


def central_caption(items: Sequence[Item], counted: Sequence[Item], box_style: str) -> list[str]:
    """The caption with the best CIDEr-D as the answer to 100 counted images.

    Tried are the 16 most frequent captions and 16 others, evenly spaced in order of frequency.
    """
    frequency = Counter(caption for item in counted for caption in item.references)
    ranked = sorted(frequency, key=lambda caption: (-frequency[caption], caption))
    tried = ranked[:_CANDIDATES] + evenly(ranked[_CANDIDATES:], _CANDIDATES)
    sampled = evenly(counted, _COUNTED)
    references = [[ptb_tokens(caption) for caption in item.references] for item in sampled]

    def merit(caption: str) -> float:
        corpus: CiderCorpus = cider_corpus([ptb_tokens(caption)] * len(sampled), references)
        return corpus.score()

    return [max(tried, key=merit)] * len(items)


def _grade(answers: Answers, meteor: MeteorCorpus | None, notes: tuple[str, ...]) -> Grade:
    items = answers.items
    candidates, references = _tokens(answers)
    cider = cider_corpus(candidates, references)
    bleu = bleu_corpus(candidates, references)
    rouge = [rouge_l(c, r) for c, r in zip(candidates, references, strict=True)]

    def values(weights: FloatArray) -> list[float]:
        extra = [] if meteor is None else [meteor.score(weights)]
        return [cider.score(weights), *bleu.score(weights), *extra]

    names = _CORPUS_METRICS if meteor is None else (*_CORPUS_METRICS, "METEOR")
    corpus = Corpus(names, values)
    scores = corpus_scores(corpus, items)
    scores.append(mean_score("ROUGE-L", rouge, items, scale=1.0))
    return Grade(
        tuple(scores), cider.per_image().tolist(), notes=_cider_notes(items) + notes, corpus=corpus
    )


Tokens = tuple[str, ...]


def _tokens(answers: Answers) -> tuple[list[Tokens], list[list[Tokens]]]:
    candidates = [ptb_tokens(text or "") for text in answers.texts]
    references = [[ptb_tokens(caption) for caption in i.references] for i in answers.items]
    return candidates, references


def _cider_notes(items: Sequence[Item]) -> tuple[str, ...]:
    """Which images the document frequencies come from, and whether that is the whole split."""
    whole = max(item.meta.get("images", len(items)) for item in items)
    note = f"CIDEr document frequencies are those of the {len(items)} scored images"
    if len(items) < whole:
        note += f", a part of the {whole} of the split: not comparable with scores over all"
    groups = sorted({breakdown for item in items for breakdown in item.groups})
    if not groups:
        return (note,)
    by = f"CIDEr by {', '.join(groups)} uses the document frequencies of the group's images alone"
    return note, by
