"""Probes find what is in the features, and only that."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from manyeyes.probes import attention
from manyeyes.probes.attention import AttentionProbe, waves
from manyeyes.probes.fitting import standardized
from manyeyes.probes.places import patch_centres, read_places
from manyeyes.probes.tasks import PROBES, Kind, Rows, Task, blind_scores, iou

GRID, CLASSES, WIDTH = 6, 3, 8


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the steps are enough for features this plain."""
    monkeypatch.setattr(attention, "STEPS", 150)


NAMES = ("a", "b", "c")


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features with one thing of each class per picture, and its cell ``[B, C]``."""
    rng = torch.Generator().manual_seed(seed)
    cells = torch.stack([torch.randperm(GRID**2, generator=rng)[:CLASSES] for _ in range(count)])
    features = 0.1 * torch.randn(count, GRID**2, WIDTH, generator=rng)
    for picture in range(count):
        features[picture, cells[picture]] += functional.one_hot(torch.arange(CLASSES), WIDTH)
    return features, cells


def rows_of(cells: Tensor, kind: Kind) -> Rows:
    """Questions about each picture's things: their class at their place, or their box."""
    count = len(cells)
    picture = torch.arange(count).repeat_interleave(CLASSES)
    named = torch.arange(CLASSES).repeat(count)
    centre = patch_centres(GRID**2)[cells.flatten()]
    none = torch.zeros(len(picture), dtype=torch.long)
    if kind == "choose":
        return Rows(picture, 2 * centre[:, None] - 1, none, named)
    size = torch.full((len(picture), 2), 0.3)
    return Rows(picture, torch.zeros(len(picture), 0, 2), named, torch.cat([centre, size], dim=1))


def task(kind: Kind, train: int = 200, held: int = 60) -> tuple[Task, Tensor, Tensor]:
    one, cells = pictures(train, 1)
    other, unseen = pictures(held, 2)
    rows = rows_of(cells, kind), rows_of(unseen, kind)
    return Task("t", kind, NAMES, *rows), *standardized(one, other, dims=(0, 1))


def presence() -> tuple[Task, Tensor, Tensor]:
    """Half of the classes removed from each picture at random."""
    features, questions = [], []
    for seed, count in ((1, 300), (2, 80)):
        x, cells = pictures(count, seed)
        there = torch.rand(count, CLASSES, generator=torch.Generator().manual_seed(seed)) > 0.5
        for picture in range(count):
            x[picture, cells[picture][~there[picture]], :CLASSES] = 0.0
        picture = torch.arange(count).repeat_interleave(CLASSES)
        place = torch.zeros(len(picture), 0, 2)
        questions.append(
            Rows(picture, place, torch.arange(CLASSES).repeat(count), there.flatten().long())
        )
        features.append(x)
    one, other = standardized(*features, dims=(0, 1))
    return Task("presence", "judge", NAMES, *questions), one, other


@pytest.mark.parametrize("name", PROBES)
def test_the_class_at_a_place_is_read(name: str) -> None:
    found, train, held = task("choose")
    assert PROBES[name](found, train, held, 0).mean() > 0.9
    blind = torch.randn(train.shape, generator=torch.Generator().manual_seed(3))
    unseen = torch.randn(held.shape, generator=torch.Generator().manual_seed(4))
    assert PROBES[name](found, blind, unseen, 0).mean() < 0.55


@pytest.mark.parametrize("name", PROBES)
def test_presence_is_read_from_the_whole_picture(name: str) -> None:
    found, train, held = presence()
    assert PROBES[name](found, train, held, 0).mean() > 0.9


@pytest.mark.parametrize(("name", "least"), [("linear", 0.7), ("attention", 0.5)])
def test_boxes_of_named_things_are_found(name: str, least: float) -> None:
    found, train, held = task("box", train=400)
    scores = PROBES[name](found, train, held, 0)
    assert scores.mean() > least
    assert scores.mean() > blind_scores(found).mean() + 0.2


def test_a_probe_is_a_function_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "STEPS", 10)
    found, train, held = task("choose", train=40, held=20)
    before = torch.random.get_rng_state()
    one = PROBES["attention"](found, train, held, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one, PROBES["attention"](found, train, held, 1))


def test_two_places_are_both_read() -> None:
    """Which of two things is of the lower class: only a probe that reads both can tell."""
    rng = torch.Generator().manual_seed(5)
    questions, features = [], []
    for seed, count in ((1, 600), (2, 80)):
        x, cells = pictures(count, seed)
        order = torch.stack([torch.randperm(CLASSES, generator=rng)[:2] for _ in range(count)])
        centre = patch_centres(GRID**2)[cells.gather(1, order)]
        none = torch.zeros(count, dtype=torch.long)
        answer = (order[:, 0] < order[:, 1]).long()
        questions.append(Rows(torch.arange(count), 2 * centre - 1, none, answer))
        features.append(x)
    found = Task("order", "choose", ("no", "yes"), *questions)
    one, other = standardized(*features, dims=(0, 1))
    for probe in PROBES.values():
        assert probe(found, one, other, 0).mean() > 0.75


def test_blind_scores_are_those_of_constant_answers() -> None:
    def rows(named: list[int], answer: list[int]) -> Rows:
        size = len(named)
        return Rows(
            torch.arange(size),
            torch.zeros(size, 0, 2),
            torch.tensor(named),
            torch.tensor(answer),
        )

    judged = Task("t", "judge", NAMES, rows([0, 0, 0, 1], [1, 1, 0, 0]), rows([0, 1, 1], [1, 1, 0]))
    assert blind_scores(judged).tolist() == [1.0, 0.0, 1.0]
    chosen = Task("t", "choose", NAMES, rows([0] * 3, [2, 2, 1]), rows([0] * 2, [2, 1]))
    assert blind_scores(chosen).tolist() == [1.0, 0.0]


def test_iou_against_hand_counts() -> None:
    a = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]])
    b = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2], [0.9, 0.9, 0.1, 0.1]])
    assert iou(a, b).tolist() == pytest.approx([1.0, 1 / 3, 0.0], abs=1e-5)


def test_the_attention_probe_against_a_slow_reference() -> None:
    """One head at a time, one row at a time, written from the equations of the module."""
    torch.manual_seed(0)
    probe = AttentionProbe(WIDTH, 2, places=1)
    patches, place = torch.randn(3, GRID**2, WIDTH), torch.rand(3, 1, 2) * 2 - 1
    torch.nn.init.normal_(probe.out.weight)
    out, centre = probe(patches, torch.zeros(3, dtype=torch.long), place)
    where = probe.position(waves(patch_centres(GRID**2)))
    for row in range(3):
        seen = read_places(patches, torch.tensor([row]), place[row])[0]
        assert probe.query is not None
        query = probe.named.weight[0] + probe.query(seen)
        query = query + probe.position(waves((place[row, 0] + 1) / 2))
        keys, values = probe.key(patches[row]) + where, probe.value(patches[row]) + where
        parts, looks = [], []
        for q, k, v in zip(query.chunk(4), keys.chunk(4, 1), values.chunk(4, 1), strict=True):
            looks.append(((k @ q) / len(q) ** 0.5).softmax(0))
            parts.append(looks[-1] @ v)
        middle = torch.stack(looks).mean(dim=0) @ patch_centres(GRID**2)
        assert torch.allclose(centre[row], middle, atol=1e-5)
        expected = probe.out(torch.cat(parts) + query)
        assert torch.allclose(out[row], expected, atol=1e-5)
