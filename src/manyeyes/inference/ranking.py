"""How likely a model finds each of several answers; image and prompt are read once for all of them.

    question + candidates ─processor→ token rows ─shared beginning→ prompt, continuations
    prompts ─language model, once→ state ─continue in batches→ log P(candidate | image, prompt)

A candidate is scored as the model was trained to write it: tokenised in its place in the
conversation, with the end token, so that P is that of answering exactly this (ours). The sum over
its tokens is `loglik`; the mean, `loglik_norm`, does not favour short candidates (LAVIS and
SEED-Bench rank by mean token loss).

Shapes: B questions of a batch, T positions, C candidates of a batch, A tokens of a candidate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from manyeyes.conversation.task_types import routes_of
from manyeyes.errors import DataError
from manyeyes.language.contract import ReadPrompt
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.records import (
    IGNORE,
    IMAGE_PLACEHOLDER,
    NOTHING_PERCEIVED,
    Perceived,
    Tags,
    Turn,
    VisualEvidence,
)


@dataclass(frozen=True)
class Likelihood:
    """log P of one candidate: the natural logarithm, summed over ``tokens`` tokens."""

    total: float
    tokens: int

    @property
    def mean(self) -> float:
        """log P per token."""
        return self.total / self.tokens


@dataclass(frozen=True)
class Continuation:
    """What follows a prompt: token ids ``[A]``, and labels, ``IGNORE`` where nothing is scored."""

    ids: Tensor
    labels: Tensor


@dataclass(frozen=True)
class RankedQuestion:
    """The token ids ``[T]`` of a prompt, its candidates, and its route where the model has any."""

    prompt: Tensor
    candidates: tuple[Continuation, ...]
    route: int | None = None


@dataclass(frozen=True)
class ShownImages:
    """Evidence, and which row of it each question is about, ``[questions]``."""

    evidence: VisualEvidence
    rows: Tensor


def ranked_question(
    processor: ManyEyesProcessor,
    question: Turn,
    candidates: Sequence[str],
    *,
    image_sizes: Sequence[tuple[int, int]] = (),
    perceived: Perceived = NOTHING_PERCEIVED,
    lengths: Sequence[int] | None = None,
) -> RankedQuestion:
    """Tokenise a question with each of its candidates; its text holds ``<image>`` if one is shown.

    ``image_sizes``: (width, height), needed where the question holds boxes, and with objects;
    ``perceived``: of the images. ``lengths``: visual tokens of each, where pictures are seen in
    tiles.

    Raises:
        DataError: no candidates, or a conversation that does not fit the recipe's max_length.
    """
    if not candidates:
        raise DataError(f"no candidates to rank for {question.text!r}")
    (written,) = processor.write_turns([question], image_sizes, perceived)
    if lengths is None:
        lengths = processor.checked_lengths((), written.text.count(IMAGE_PLACEHOLDER))
    rows = [_row(processor, written, one, perceived.tags, lengths) for one in candidates]
    route = routes_of(None, [written.text])[0] if processor.routed else None
    if not processor.answers_in_sequence:
        answers = tuple(Continuation(labels, labels) for _, labels in rows)
        return RankedQuestion(rows[0][0], answers, route)
    # the label of a token stands at its own place; what no label follows is not needed
    ends = [int((labels != IGNORE).nonzero().max()) + 1 for _, labels in rows]
    starts = [int((labels != IGNORE).nonzero().min()) for _, labels in rows]
    shared = min(_shared_length([ids.tolist() for ids, _ in rows]), *starts)
    continuations = tuple(
        Continuation(ids[shared:end], labels[shared:end])
        for (ids, labels), end in zip(rows, ends, strict=True)
    )
    return RankedQuestion(rows[0][0][:shared], continuations, route)


@torch.inference_mode()
def rank_candidates(
    model: ManyEyesForConditionalGeneration,
    questions: Sequence[RankedQuestion],
    shown: ShownImages | None,
    *,
    batch_size: int,
) -> list[list[Likelihood]]:
    """Likelihoods of every question's candidates, in order.

    ``batch_size`` bounds the candidates that are scored together; as many questions are read
    together as have so many candidates.
    """
    found: list[list[Likelihood]] = [[] for _ in questions]
    for places in _batches(questions, batch_size):
        rows = None if shown is None else shown.rows[torch.tensor(places)]
        part = None if shown is None or rows is None else ShownImages(shown.evidence, rows)
        batch = _Batch(model, [questions[place] for place in places], part)
        for place, likelihoods in zip(places, batch.rank(batch_size), strict=True):
            found[place] = likelihoods
    return found


@dataclass(frozen=True)
class _Batch:
    """Questions whose prompts are read together."""

    model: ManyEyesForConditionalGeneration
    questions: Sequence[RankedQuestion]
    shown: ShownImages | None

    def rank(self, batch_size: int) -> list[list[Likelihood]]:
        """1. read the prompts   2. continue them, candidates of similar length together."""
        prompt = self._read()
        every = [(row, c) for row, q in enumerate(self.questions) for c in q.candidates]
        order = sorted(range(len(every)), key=lambda place: len(every[place][1].ids))
        scored: dict[int, Likelihood] = {}
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            chosen = [every[place] for place in places]
            scored |= zip(places, self._continue(prompt, chosen), strict=True)
        in_order = iter([scored[place] for place in range(len(every))])
        return [[next(in_order) for _ in question.candidates] for question in self.questions]

    def _read(self) -> ReadPrompt:
        model, prompts = self.model, [question.prompt for question in self.questions]
        ids = pad_sequence(prompts, batch_first=True, padding_side="left").to(model.device)
        ones = [torch.ones_like(prompt) for prompt in prompts]
        mask = pad_sequence(ones, batch_first=True, padding_side="left").to(model.device)
        evidence, rows = (None, None) if self.shown is None else vars(self.shown).values()
        counts = None if rows is None else torch.ones_like(rows)
        with model.layer_context(self._layer_inputs(torch.arange(len(prompts)), ids)):
            embeddings = model.embed(ids, evidence, counts, rows)
            return model.language_kind.read(model.language_model, embeddings, mask)

    def _continue(
        self, prompt: ReadPrompt, chosen: Sequence[tuple[int, Continuation]]
    ) -> list[Likelihood]:
        owners = torch.tensor([row for row, _ in chosen])
        ids, labels = (
            pad_sequence(part, batch_first=True, padding_value=IGNORE).to(self.model.device)
            for part in ([c.ids for _, c in chosen], [c.labels for _, c in chosen])
        )
        with self.model.layer_context(self._layer_inputs(owners)):
            logits = self.model.language_kind.continue_prompts(
                self.model.language_model, prompt, owners.to(self.model.device), ids
            )
        return _likelihoods(logits, labels)

    def _layer_inputs(self, rows: Tensor, ids: Tensor | None = None) -> dict[str, Any]:
        """What the language model's layers read besides the text for these rows of the batch.

        ``ids``: of their prompts, while these are read.
        """
        evidence = None if self.shown is None else self.shown.evidence
        images = None if self.shown is None else self.shown.rows[rows]
        counts = None if images is None else torch.ones_like(images)
        routes = [self.questions[row].route for row in rows.tolist()]
        every = torch.tensor(routes, device=self.model.device) if self.model.config.routed else None
        return self.model.layer_inputs(len(rows), evidence, counts, images, every, input_ids=ids)


def _row(
    processor: ManyEyesProcessor,
    question: Turn,
    answer: str,
    tags: Tags | None,
    lengths: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Token ids and labels of a question with an answer, as in training."""
    turns = (question, Turn("assistant", answer))
    # questions are not cut to max_length when a model generates its answer either
    row = processor.text_rows.row(turns, tags, lengths, answer, cut=False)
    limit = processor.max_length if processor.answers_in_sequence else None
    if limit is not None and len(row["input_ids"]) >= limit:
        raise DataError(
            f"the candidate {answer!r} does not fit max_length {limit} after its prompt"
        )
    return row["input_ids"], row["labels"]


def _shared_length(rows: Sequence[list[int]]) -> int:
    """How many tokens all rows begin with."""
    for place, column in enumerate(zip(*rows, strict=False)):
        if len(set(column)) > 1:
            return place
    return min(len(row) for row in rows)


def _batches(questions: Sequence[RankedQuestion], batch_size: int) -> Iterator[list[int]]:
    """Places of questions with prompts of similar length and at most ``batch_size`` candidates,
    or of one question that has more."""
    places = sorted(range(len(questions)), key=lambda place: len(questions[place].prompt))
    batch: list[int] = []
    room = batch_size
    for place in places:
        needed = len(questions[place].candidates)
        if batch and needed > room:
            yield batch
            batch, room = [], batch_size
        batch.append(place)
        room -= needed
    if batch:
        yield batch


def _likelihoods(logits_CAV: Tensor, labels_CA: Tensor) -> list[Likelihood]:
    scored = labels_CA != IGNORE
    log_p = logits_CAV.float().log_softmax(dim=-1)
    each = log_p.gather(-1, labels_CA.clamp(min=0)[..., None])[..., 0]
    totals = each.masked_fill(~scored, 0.0).sum(dim=1).tolist()
    return [Likelihood(t, int(n)) for t, n in zip(totals, scored.sum(dim=1).tolist(), strict=True)]
