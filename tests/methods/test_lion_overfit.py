"""LION learns sixteen answers by heart, which its fusion, adapters and routes must do (LION §10).

Every picture has two answers to one question, a word and a place: a model that cannot tell the
eight pictures apart loses at least ln 8 per answer, one that does not use its routes at least ln 2.
The tiny language model first learns to repeat a written answer. LION's is a trained one too, and a
random one of width 32 cannot be steered to eight answers by adapters alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoTokenizer, T5ForConditionalGeneration

import tiny
from lion_parts import Built, build_lion, lion_block
from manyeyes.conversation.task_types import IMAGE, REGION
from manyeyes.records import IGNORE, Sample, Turn
from manyeyes.training.trainable import assign, freeze

WORDS = ("red", "green", "blue", "white", "pink", "cyan", "olive", "tan")
PLACES = tuple(f"[0.{number}]" for number in range(1, 9))
ANSWERS = {IMAGE: WORDS, REGION: PLACES}
QUESTION = "\nQ?"
PICTURE_BLIND, ROUTE_BLIND = math.log(len(WORDS)), math.log(2)
NEAR_ZERO = 0.25
MOST_LANGUAGE_STEPS, MOST_ROUNDS = 200, 150


@pytest.fixture(scope="module")
def speaking(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny parts, with a T5 that repeats an answer written before the question."""
    folder = tmp_path_factory.mktemp("speaking")
    for part in ("clip", "llama"):
        (folder / part).symlink_to(parts / part)
    tiny.save_t5(folder / "t5")
    tokenizer = AutoTokenizer.from_pretrained(folder / "t5")
    model: Any = T5ForConditionalGeneration.from_pretrained(folder / "t5")
    answers = [*WORDS, *PLACES]
    read = tokenizer([answer + QUESTION for answer in answers], return_tensors="pt", padding=True)
    written = tokenizer(
        [answer + tokenizer.eos_token for answer in answers], return_tensors="pt", padding=True
    )
    labels = written["input_ids"].masked_fill(written["attention_mask"] == 0, IGNORE)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(MOST_LANGUAGE_STEPS):
        ids, mask = read["input_ids"], read["attention_mask"]
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        learn(optimizer, loss)
        if float(loss.detach()) < 0.012:
            break
    model.save_pretrained(folder / "t5")
    return folder


def learn(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def batches(processor: Any) -> dict[str, dict[str, Any]]:
    """One batch per kind of task: the same eight pictures and question, other answers."""
    generator = torch.Generator().manual_seed(0)
    shape = (tiny.IMAGE_SIZE, tiny.IMAGE_SIZE, 3)
    pictures = [
        Image.fromarray(torch.randint(0, 256, shape, generator=generator).byte().numpy())
        for _ in WORDS
    ]
    found = {}
    for task, answers in ANSWERS.items():
        encoded = []
        for answer, picture in zip(answers, pictures, strict=True):
            turns = (Turn("user", f"<image>{QUESTION}"), Turn("assistant", answer))
            encoded.append(processor.encode(Sample(answer, ("x",), turns, task), [picture]))
        found[task] = processor.collate(encoded)
    return found


@torch.no_grad()
def loss_per_answer(model: Any, batch: Mapping[str, Any]) -> float:
    """Negative log-likelihood of a whole answer, mean over the batch."""
    tokens = int((batch["labels"] != IGNORE).sum())
    return float(model(**batch).loss) * tokens / len(batch["labels"])


@torch.no_grad()
def put(model: nn.Module, values: Mapping[str, Tensor], names: Iterable[str]) -> None:
    parameters = dict(model.named_parameters())
    for name in names:
        parameters[name].copy_(values[name])


def trained(parts: Path) -> tuple[Built, dict[str, dict[str, Any]], dict[str, Tensor]]:
    """A model after its rounds, its batches, and what it started from."""
    torch.manual_seed(0)
    model, processor = build_lion(lion_block(parts))
    freeze(model, assign(model, {"fusion": True, "bridge": True}))
    learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
    start = {name: parameter.detach().clone() for name, parameter in learning.items()}
    both = batches(processor)
    optimizer = torch.optim.Adam(learning.values(), lr=1e-2)
    model.train()
    for _ in range(MOST_ROUNDS):
        losses = []
        for batch in both.values():
            loss = model(**batch).loss
            learn(optimizer, loss)
            losses.append(float(loss.detach()))
        if max(losses) < 0.035:
            break
    model.eval()
    return (model, processor), both, start


def test_lion_check_21_both_kinds_are_learnt_by_heart(speaking: Path) -> None:
    (model, _), both, start = trained(speaking)
    for batch in both.values():
        assert loss_per_answer(model, batch) < NEAR_ZERO < ROUTE_BLIND
        wrong_route = {**batch, "routes": 1 - batch["routes"]}
        assert loss_per_answer(model, wrong_route) > PICTURE_BLIND
        wrong_picture = {**batch, "pixel_values_clip": batch["pixel_values_clip"].roll(1, dims=0)}
        assert loss_per_answer(model, wrong_picture) > PICTURE_BLIND
    end = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    # neither part could have stayed as it was: nothing else tells pictures, or routes, apart
    for part, blind in (("fusion", PICTURE_BLIND), ("bridge.mixture.adapters", ROUTE_BLIND)):
        names = [name for name in start if name.startswith(part)]
        put(model, start, names)
        lost = [loss_per_answer(model, batch) for batch in both.values()]
        assert sum(lost) / len(lost) > blind, part
        put(model, end, names)
    gates = [name for name in start if name.startswith("bridge.mixture.gates")]
    assert gates and not any(torch.equal(start[name], end[name]) for name in gates)
