"""Questions about pictures with known answers, and how well features answer them.

A task is a set of rows: a picture, up to two places in it, perhaps a class that the question names,
and the answer. Every item's score is a share 0..1: right or wrong, or the IoU of a box.
Shapes: B pictures, N patches, D width, M rows, P places of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from manyeyes.probes import attention
from manyeyes.probes.fitting import descend
from manyeyes.probes.linear import classify, judge, locate, pooled
from manyeyes.probes.places import WINDOW, read_places

Kind = Literal["choose", "judge", "box"]
"""One class of several, yes or no about a named class, or the box of a named thing."""


LINEAR_RATE = 1e-2
"""Learning rate of linear classifiers: high enough for a few hundred rows of data."""


@dataclass(frozen=True)
class Rows:
    """The questions of one task about one set of pictures.

    ``picture`` ``[M]``; ``place`` ``[M, P, 2]`` (x, y) in -1..1 of the picture; ``named`` ``[M]``
    class that the question names, 0 where it names none; ``answer`` ``[M]`` class, ``[M]`` 0 or 1,
    or ``[M, 4]`` box (centre x, y, width, height in 0..1).
    """

    picture: Tensor
    place: Tensor
    named: Tensor
    answer: Tensor

    def __len__(self) -> int:
        return len(self.picture)


@dataclass(frozen=True)
class Task:
    """``classes``: names of the answers (``choose``) or of what is named (``judge``, ``box``)."""

    name: str
    kind: Kind
    classes: tuple[str, ...]
    train: Rows
    held: Rows
    title: str = ""


def linear_probe(task: Task, train: Tensor, held: Tensor, seed: int) -> Tensor:
    """Return every held-out item's score ``[M]`` by a linear probe.

    ``train`` and ``held``: features ``[B, N, D]`` of the two sets of pictures, standardised.
    """
    one, other = task.train, task.held
    if task.kind == "box":
        probe = locate(train, one.picture, one.named, one.answer, seed, len(task.classes))
        with torch.no_grad():
            return iou(probe(held[other.picture], other.named), other.answer)
    inputs, unseen = _linear_inputs(train, one), _linear_inputs(held, other)
    if task.kind == "judge":
        classes = len(task.classes)
        asked = one.named, other.named
        logits = judge(inputs, asked, one.answer, unseen, seed, classes, rate=LINEAR_RATE)
        return ((logits > 0) == other.answer.bool()).float()
    (scores,) = classify(inputs, [one.answer], [len(task.classes)], unseen, seed, rate=LINEAR_RATE)
    return (scores.argmax(dim=1) == other.answer).float()


def _linear_inputs(features: Tensor, rows: Rows) -> Tensor:
    places = rows.place.shape[1]
    if not places:
        return pooled(features)[rows.picture]
    read = [
        read_places(features, rows.picture, rows.place[:, place], WINDOW) for place in range(places)
    ]
    return torch.cat(read, dim=1)


def attention_probe(task: Task, train: Tensor, held: Tensor, seed: int) -> Tensor:
    """Return every held-out item's score ``[M]`` by an attention probe; see ``linear_probe``."""
    outputs = {"choose": len(task.classes), "judge": 1, "box": 4}[task.kind]
    named = 0 if task.kind == "choose" else len(task.classes)
    one, other = task.train, task.held
    usual = one.answer[:, 2:].mean(dim=0) if task.kind == "box" else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = attention.AttentionProbe(
            train.shape[2], outputs, classes=named, places=one.place.shape[1]
        )

    def answers(features: Tensor, rows: Rows, batch: Tensor) -> Tensor:
        picture = rows.picture[batch]
        out, centre = probe(features[picture], rows.named[batch], rows.place[batch])
        return out if usual is None else out + torch.cat([centre, usual.expand(len(out), 2)], 1)

    def loss(batch: Tensor) -> Tensor:
        out, answer = answers(train, one, batch), one.answer[batch]
        if task.kind == "box":
            return (out - answer).abs().sum(dim=1).mean()
        if task.kind == "judge":
            return functional.binary_cross_entropy_with_logits(out.squeeze(1), answer.float())
        return functional.cross_entropy(out, answer)

    descend(
        probe.parameters(),
        loss,
        len(one),
        rate=attention.RATE,
        seed=seed,
        batch=attention.BATCH,
        steps=attention.STEPS,
    )
    scores = []
    with torch.no_grad():
        for part in torch.arange(len(other)).split(4 * attention.BATCH):
            scores.append(_scores(task.kind, answers(held, other, part), other.answer[part]))
    return torch.cat(scores)


def _scores(kind: Kind, out: Tensor, answer: Tensor) -> Tensor:
    if kind == "box":
        return iou(out, answer)
    if kind == "judge":
        return ((out.squeeze(1) > 0) == answer.bool()).float()
    return (out.argmax(dim=1) == answer).float()


Probe = Callable[[Task, Tensor, Tensor, int], Tensor]
PROBES: Mapping[str, Probe] = {"linear": linear_probe, "attention": attention_probe}
"""Name of a probe -> scores of the held-out items from task, both features, and seed."""


def blind_scores(task: Task) -> Tensor:
    """Return the items' scores ``[M]`` of the best constant answer, counted on the training rows.

    The commonest class, per named class where there is one; for boxes the named class's mean box.
    """
    one, other = task.train, task.held
    if task.kind == "box":
        mean = one.answer.mean(dim=0)
        boxes = [one.answer[one.named == c] for c in range(len(task.classes))]
        table = torch.stack([b.mean(dim=0) if len(b) else mean for b in boxes])
        return iou(table[other.named], other.answer)
    size = len(task.classes) if task.kind == "choose" else 2
    named = max(1, int(max(one.named.max(), other.named.max())) + 1)
    counts = torch.zeros(named, size)
    counts.index_put_((one.named, one.answer), torch.ones(len(one)), accumulate=True)
    counts = counts + 1e-3 * counts.sum(dim=0)
    return (counts.argmax(dim=1)[other.named] == other.answer).float()


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU of boxes (centre x, y, width, height) ``[M, 4]``, row by row."""
    low = torch.maximum(a[:, :2] - a[:, 2:].abs() / 2, b[:, :2] - b[:, 2:] / 2)
    high = torch.minimum(a[:, :2] + a[:, 2:].abs() / 2, b[:, :2] + b[:, 2:] / 2)
    inside = (high - low).clamp(min=0).prod(dim=1)
    union = a[:, 2:].abs().prod(dim=1) + b[:, 2:].prod(dim=1) - inside
    return inside / union.clamp(min=1e-12)
