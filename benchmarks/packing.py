"""Training on conversations of many lengths: packed, side by side, and transformers' Trainer.

Same weights and same rows on all sides, float32, batches in the same order; projector and language
model learn. The rows are drawn by the shares of LLaVA-1.5's mixture of 665 thousand
(arXiv 2310.03744, table 7); the lengths of each kind, in words, are ours. Before anything is timed,
the packed batch must give the loss and the projector gradient of the padded one.

    python benchmarks/packing.py [--quick | --wide] [--batch 8] [--layers 4] [--json]

``--wide``: a twelfth of Qwen2.5-0.5B, in width 896 two of 24 blocks and a twelfth of the words, so
that blocks and head have the shares of the arithmetic that they have at full depth, and two of the
12 blocks of ViT-B.

Variants
    peer       Trainer over LlavaForConditionalGeneration, padded on the right
    unpacked   the stage's trainer, padded on the right
    packed     the stage's trainer with ``packing``
"""

from __future__ import annotations

import copy
import dataclasses
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from alignment_step import Rows, timed
from pair import (
    FULL,
    QUICK,
    Row,
    Sizes,
    build_ours,
    build_peer,
    peer_collate,
    peer_row,
    picture,
    words,
)
from timing import Clock, arguments, interleave, ratio, show
from torch.utils.data import Dataset
from transformers import LlavaForConditionalGeneration, Trainer, TrainingArguments

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.data.sampler import ResumableSampler
from manyeyes.layers.attention.packed import pack_attention
from manyeyes.records import Sample, Turn
from manyeyes.training.loader import EndlessOrder
from manyeyes.training.packing import packed
from manyeyes.training.trainable import Train, assign, freeze
from manyeyes.training.trainer import StageData, StageTrainer

BATCH = 8
WIDE = dataclasses.replace(
    FULL,
    width=896,
    layers=2,
    heads=14,
    kv_heads=2,
    inner=4864,
    vocabulary=151_936 // 12,
    vision_layers=2,
)
PEER, UNPACKED, PACKED = "peer", "unpacked", "packed"
TRAIN: Train = {"fusion": True, "language": True}


@dataclass(frozen=True)
class Kind:
    """Conversations of one kind: thousands in the mixture, shortest and longest in words.

    Half of the words are the question's, half the answer's.
    """

    thousands: int
    words: tuple[int, int]
    image: bool = True


KINDS = {
    "LLaVA-Instruct": Kind(158, (60, 500)),
    "ShareGPT": Kind(40, (300, 1500), image=False),
    "VQA and its like": Kind(310, (20, 250)),
    "TextCaps": Kind(22, (20, 50)),
    "regions": Kind(134, (40, 300)),
}


def rows_of_the_mix(
    sizes: Sizes,
    processor: ManyEyesProcessor,
    count: int,
    *,
    scale: float = 1.0,
    seed: int = 0,
    batch: int = BATCH,
) -> list[Row]:
    """``count`` encoded conversations; ``scale`` shortens the texts of tiny models.

    The first batch is not timed, and short.
    """
    draw = random.Random(seed)
    kinds = draw.choices(list(KINDS.values()), [k.thousands for k in KINDS.values()], k=count)
    kinds = [KINDS["TextCaps"] if number < batch else k for number, k in enumerate(kinds)]
    kinds = [KINDS["regions"] if number % batch == 0 else k for number, k in enumerate(kinds)]
    rows = []
    for number, kind in enumerate(kinds):  # the peer needs an image in every batch
        half = max(2, int(scale * draw.randint(*kind.words)) // 2)
        text = ("<image>\n" if kind.image else "") + words(sizes, draw, half)
        turns = (Turn("user", text), Turn("assistant", words(sizes, draw, half)))
        images = [picture(sizes, number)] if kind.image else []
        sample = Sample(str(number), ("",) * len(images), turns)
        rows.append(processor.encode(sample, images))
    return rows


def training(folder: Path, steps: int, batch: int = BATCH) -> TrainingArguments:
    """Arguments of all variants; one more step sets things up."""
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        max_steps=steps + 1,
        learning_rate=1e-5,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        train_sampling_strategy="sequential",
    )


def peer_runner(
    peer: LlavaForConditionalGeneration, rows: Sequence[Row], args: TrainingArguments
) -> Callable[[], Clock]:
    """Steps of the stock Trainer; the vision tower is frozen."""
    peer.train().model.vision_tower.requires_grad_(False)
    return timed(
        Trainer(model=peer, args=args, train_dataset=Rows(rows), data_collator=peer_collate)
    )


def our_runner(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    dataset: Dataset[Row],
    args: TrainingArguments,
    *,
    packing: bool,
    train: Train = TRAIN,
) -> Callable[[], Clock]:
    """Steps of the stage's trainer."""
    return timed(our_trainer(model, processor, dataset, args, packing=packing, train=train))


def our_trainer(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    dataset: Dataset[Row],
    args: TrainingArguments,
    *,
    packing: bool,
    train: Train = TRAIN,
) -> StageTrainer:
    """The stage's trainer over rows in their order."""
    rows = len(dataset)  # type: ignore[arg-type]
    sampler = ResumableSampler(rows, fingerprint="benchmark", shuffle=False)
    assignment = assign(model, train)
    freeze(model, assignment)
    collate = packed(processor.collate) if packing else processor.collate
    trainer = StageTrainer(
        model,
        args,
        StageData(dataset, EndlessOrder(sampler), collate, str),
        assignment=assignment,
        objectives={"next_token": 1.0},
        processor=processor,
    )
    if packing:
        pack_attention(model.language_model)
    return trainer


def check_equal(
    ours: ManyEyesForConditionalGeneration, processor: ManyEyesProcessor, rows: Sequence[Row]
) -> dict[str, float]:
    """Compare loss and projector gradient of a batch of ``rows``, padded and packed.

    Raises:
        AssertionError: they are not the same computation.
    """
    freeze(ours, assign(ours, TRAIN))
    found = {}
    for name, collate in ((UNPACKED, processor.collate), (PACKED, packed(processor.collate))):
        model = copy.deepcopy(ours).train()
        if name == PACKED:
            pack_attention(model.language_model)
        loss = model(**collate(list(rows))).loss
        loss.backward()
        found[name] = loss.detach(), [p.grad for p in model.fusion.parameters()]
    torch.testing.assert_close(found[PACKED][0], found[UNPACKED][0], rtol=1e-5, atol=1e-5)
    for one, other in zip(found[PACKED][1], found[UNPACKED][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    return {f"loss, {name}": float(loss) for name, (loss, _) in found.items()}


def about(rows: Sequence[Row], size: int) -> dict[str, Any]:
    """How long the rows of the timed steps are, and how much of padded batches is padding."""
    lengths = [len(row["input_ids"]) for row in rows]
    batches = [lengths[first : first + size] for first in range(0, len(lengths), size)]
    padded = sum(max(batch) * len(batch) for batch in batches)
    return {
        "batch": size,
        "mean length": round(sum(lengths) / len(lengths), 1),
        "longest": max(lengths),
        "padding": round(1 - sum(lengths) / padded, 3),
        "tokens saved, times": round(padded / sum(lengths), 2),
    }


def variants(
    sizes: Sizes, steps: int, folder: Path, scale: float, batch: int = BATCH
) -> tuple[Mapping[str, Callable[[], Clock]], int, dict[str, Any]]:
    """Return runners, supervised tokens of the timed steps, and what is said of the rows."""
    ours, processor = build_ours(sizes)
    rows = rows_of_the_mix(sizes, processor, (steps + 1) * batch, scale=scale, batch=batch)
    said = {**about(rows[batch:], batch), **check_equal(ours, processor, rows[:batch])}
    supervised = sum(int((row["labels"][1:] != -100).sum()) for row in rows[batch:])
    peer = build_peer(sizes, ours)
    peer_rows = [peer_row(row, sizes, processor) for row in rows]
    args = training(folder, steps, batch)
    runners = {
        PEER: peer_runner(peer, peer_rows, args),
        UNPACKED: our_runner(copy.deepcopy(ours), processor, Rows(rows), args, packing=False),
        PACKED: our_runner(ours, processor, Rows(rows), args, packing=True),
    }
    return runners, supervised, said


def main() -> None:
    """Measure and print."""
    parser = arguments(str(__doc__).partition("\n")[0])
    parser.add_argument("--steps", type=int, default=3, help="timed steps per round")
    parser.add_argument("--layers", type=int, help="blocks of the language model; 30 at full size")
    parser.add_argument("--wide", action="store_true", help="width 896, two blocks")
    parser.add_argument("--batch", type=int, default=BATCH, help="conversations per step")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    sizes = QUICK if options.quick else WIDE if options.wide else FULL
    if options.layers:
        sizes = dataclasses.replace(sizes, layers=options.layers, vision_layers=2)
    rounds = options.rounds or (2 if options.quick else 5)
    with tempfile.TemporaryDirectory() as folder:
        scale = 0.1 if options.quick else 1.0
        runners, supervised, said = variants(
            sizes, options.steps, Path(folder), scale, options.batch
        )
        series = interleave(runners, supervised, rounds)
    ratios = {
        f"{PACKED} / {UNPACKED}": ratio(series[UNPACKED], series[PACKED]),
        f"{PACKED} / {PEER}": ratio(series[PEER], series[PACKED]),
        f"{UNPACKED} / {PEER}": ratio(series[PEER], series[UNPACKED]),
    }
    title = "training on LLaVA-1.5's mixture, supervised tokens per second"
    show(title, series, ratios, "tokens/s", as_json=options.json, extra=said)


if __name__ == "__main__":
    main()
