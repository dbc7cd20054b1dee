"""X-Former learns: x-former.md §10, checks 16 and 17, over tiny parts."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import image_text_parts as tiny_parts
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.losses import OBJECTIVES
from manyeyes.records import Sample, Turn
from manyeyes.training.trainable import assign, freeze
from xformer_models import FIRST, FOUR, first_stage, make, needs, pairs, xformer

pytestmark = pytest.mark.long


def eight(processor: ManyEyesProcessor) -> dict[str, Tensor]:
    """Eight pictures of one colour each with a word for it."""
    names = ("red", "green", "blue", "white", "black", "cyan", "pink", "gold")
    rows = []
    for index, name in enumerate(names):
        generator = torch.Generator().manual_seed(index)
        pixels = torch.randint(0, 256, (4, 4, 3), generator=generator).byte().numpy()
        picture = Image.fromarray(pixels).resize((16, 16), Image.Resampling.NEAREST)
        turns = (Turn("user", "<image>\n?"), Turn("assistant", name))
        rows.append(processor.encode(Sample(name, ("x",), turns), [picture]))
    return processor.collate(rows)


def test_xformer_check_16_overfit(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "parts")
    _, processor = xformer(home)
    tiny_parts.teach_mae(tmp_path / "parts" / "mae", eight(processor)["pixel_values_mae"])
    model, processor = xformer(tmp_path / "parts", width=32, heads=4, ffn=64, dual_ffn="none")
    first_stage(model)
    batch = eight(processor)
    before = mean_losses(model, batch)
    overfit(model, batch, steps=250)
    after = mean_losses(model, batch)
    assert all(after[name] < 0.9 * before[name] for name in FOUR), (before, after)
    with torch.no_grad():
        assert [match_accuracy(model, batch) for _ in range(20)] == [1.0] * 20
        with_dual = reconstructions(model, batch)
        local = model.fusion.dual.layers[0].local
        local.forward = lambda x, y, mask=None: x  # the first cross-attention bypassed
        bypassed = reconstructions(model, batch)
        worse = [one > other for one, other in zip(bypassed, with_dual, strict=True)]
        assert all(worse), (with_dual, bypassed)


def overfit(model: ManyEyesForConditionalGeneration, batch: dict[str, Tensor], steps: int) -> None:
    """Minimise the sum of the four losses; the rate falls, so that the end is not noisy."""
    torch.manual_seed(0)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for _ in range(steps):
        trace = model(**batch, wanted=needs(*FOUR)).trace
        optimizer.zero_grad()
        torch.stack([OBJECTIVES[name](trace) for name in FOUR]).sum().backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def mean_losses(
    model: ManyEyesForConditionalGeneration, batch: dict[str, Tensor], draws: int = 20
) -> dict[str, float]:
    """Return each loss as the mean over ``draws`` fixed draws of masks and negatives."""
    totals = dict.fromkeys(FOUR, 0.0)
    for draw in range(draws):
        torch.manual_seed(draw)
        trace = model(**batch, wanted=needs(*FOUR)).trace
        for name in FOUR:
            totals[name] += float(OBJECTIVES[name](trace)) / draws
    return totals


def match_accuracy(model: ManyEyesForConditionalGeneration, batch: dict[str, Tensor]) -> float:
    trace = model(**batch, wanted=needs("itm")).trace
    right = trace["match_logits"].argmax(dim=-1) == trace["match_labels"]
    return float(right.float().mean())


def reconstructions(
    model: ManyEyesForConditionalGeneration, batch: dict[str, Tensor], draws: int = 10
) -> list[float]:
    """Return the loss under ``draws`` masks that were not trained on."""
    generator = torch.Generator().manual_seed(99)
    found = []
    for _ in range(draws):
        noise = torch.rand(8, 16, generator=generator)
        trace = model(**batch, noise_mae=noise, wanted=needs("reconstruction")).trace
        found.append(float(OBJECTIVES["reconstruction"](trace)))
    return found


def test_xformer_check_16_writes_what_it_learnt(home: Path) -> None:
    torch.manual_seed(0)
    model, processor = make(tiny_parts.clip_block(home, **FIRST, width=32, heads=4, ffn=64))
    first_stage(model)
    batch = eight(processor)
    optimizer = torch.optim.AdamW(model.fusion.parameters(), 5e-3, weight_decay=0.0)
    for _ in range(120):
        loss = OBJECTIVES["itg"](model(**batch, wanted=needs("itg")).trace)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert math.isfinite(float(loss.detach()))
    model.eval()
    reader = processor.text_reader
    assert reader is not None
    bundle = model.encode(pixel_values_clip=batch["pixel_values_clip"])
    written = [reader.tokenizer.decode(row) for row in model.fusion.write(bundle, last=reader.last)]
    right = sum(
        a == b
        for a, b in zip(
            written,
            ("red", "green", "blue", "white", "black", "cyan", "pink", "gold"),
            strict=True,
        )
    )
    assert right >= 7, written


def test_xformer_check_17_reconstruction_in_the_second_stage(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = xformer(home, idle=False, text="none")
    freeze(model, assign(model, {"fusion": True}))
    model.train()
    output = model(**pairs(processor, pictures), wanted=needs("next_token", "reconstruction"))
    assert set(output.trace) >= set(needs("next_token", "reconstruction"))
    (output.loss + OBJECTIVES["reconstruction"](output.trace)).backward()
    assert model.fusion.dual.w_out.weight.grad is not None
