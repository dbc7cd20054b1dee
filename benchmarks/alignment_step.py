"""Training step of the alignment stage: manyeyes against LLaVA of transformers with its Trainer.

Same weights, same rows, bfloat16 autocast on both sides, only the projector learns, batch 4. Before
anything is timed, both must give the same loss and the same projector gradient in float32.

    python benchmarks/alignment_step.py [--quick] [--json]

Variants
    peer                 Trainer(bf16=True) over float32 weights, as its users run it
    peer, bf16 weights   the same with the model loaded in bfloat16
    ours, first epoch    the stage's trainer; frozen parts in bfloat16, the encoder runs
    ours, stored         the same with the frozen encoder's features read from the feature store
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from pair import (
    FULL,
    QUICK,
    Row,
    Sizes,
    build_ours,
    build_peer,
    freeze_but,
    make_rows,
    peer_collate,
    peer_row,
)
from timing import Clock, arguments, interleave, measured, ratio, show
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    LlavaForConditionalGeneration,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.data.feature_store import FeatureStore
from manyeyes.data.sampler import ResumableSampler
from manyeyes.records import GridFeatures
from manyeyes.training.build import cast_frozen
from manyeyes.training.loader import EndlessOrder
from manyeyes.training.trainable import assign, freeze
from manyeyes.training.trainer import StageData, StageTrainer

BATCH = 4
PEER, PEER_BF16 = "peer", "peer, bf16 weights"
OURS, STORED = "ours, first epoch", "ours, stored"


class Rows(Dataset[Row]):
    """Rows in memory."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return dict(self.rows[index % len(self.rows)])


class StoredRows(Rows):
    """Rows whose pixels are replaced by features of the store."""

    def __init__(self, rows: Sequence[Row], store: FeatureStore) -> None:
        super().__init__(rows)
        self.store = store

    def __getitem__(self, index: int) -> Row:
        number = index % len(self.rows)
        row = {k: v for k, v in self.rows[number].items() if not k.startswith("pixel_values")}
        return {**row, "features_clip": self.store.read([str(number)])}


class AfterFirstStep(TrainerCallback):
    """Measures from the end of the first step, which sets things up, to the end of the last.

    ``measure`` opens a block of code to measure and gives what then holds the result.
    """

    def __init__(self, measure: Callable[[], AbstractContextManager[Any]] = measured) -> None:
        self.measure = measure

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.block = self.measure()
        self.clock: Any = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.clock is None:
            self.clock = self.block.__enter__()
        elif state.global_step == state.max_steps:
            self.block.__exit__(None, None, None)


def training(folder: Path, steps: int) -> TrainingArguments:
    """Arguments of both sides."""
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH,
        max_steps=steps + 1,
        learning_rate=1e-3,
        bf16=True,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def peer_runner(
    peer: LlavaForConditionalGeneration, rows: Sequence[Row], args: TrainingArguments
) -> Callable[[], Clock]:
    """One block of steps of the peer under the stock Trainer."""
    freeze_but(peer, peer.model.multi_modal_projector)
    trainer = Trainer(model=peer, args=args, train_dataset=Rows(rows), data_collator=peer_collate)
    return timed(trainer)


def our_runner(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    dataset: Dataset[Row],
    args: TrainingArguments,
) -> Callable[[], Clock]:
    """One block of steps of ours under the stage's trainer."""
    order = EndlessOrder(ResumableSampler(len(dataset), seed=0, fingerprint="benchmark"))  # type: ignore[arg-type]
    assignment = assign(model, {"fusion": True})
    freeze(model, assignment)
    cast_frozen(model, torch.bfloat16)
    trainer = StageTrainer(
        model,
        args,
        StageData(dataset, order, processor.collate, str),
        assignment=assignment,
        objectives={"next_token": 1.0},
        processor=processor,
    )
    return timed(trainer)


def timed(trainer: Trainer) -> Callable[[], Clock]:
    """Return a runner of ``trainer`` that times all steps but the first."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    timer = AfterFirstStep()
    trainer.add_callback(timer)

    def run() -> Clock:
        trainer.train()
        assert timer.clock is not None
        return timer.clock

    return run


def store_features(
    model: ManyEyesForConditionalGeneration, rows: Sequence[Row], folder: Path
) -> FeatureStore:
    """Encode every row's image once, in bfloat16."""
    shape = model.config.encoder_shapes()["clip"]
    size = (len(shape.level_indices), shape.num_patches, shape.width)
    store = FeatureStore(folder, {"encoder": "benchmark"}, size, torch.bfloat16)
    for number, row in enumerate(rows):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            features = model.encode(pixel_values_clip=row["pixel_values_clip"])["clip"]
        assert isinstance(features, GridFeatures)
        store.write([str(number)], torch.stack(features.levels, dim=1).bfloat16())
    return store


def check_equal(
    ours: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    peer: LlavaForConditionalGeneration,
    rows: Sequence[Row],
    sizes: Sizes,
) -> dict[str, float]:
    """Compare loss and projector gradient of one batch in float32; return both losses.

    Raises:
        AssertionError: they are not the same computation.
    """
    batch = list(rows[:BATCH])
    freeze_but(ours, ours.fusion)
    freeze_but(peer, peer.model.multi_modal_projector)
    losses = [
        ours(**processor.collate(batch)).loss,
        peer(**peer_collate([peer_row(row, sizes, processor) for row in batch])).loss,
    ]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)
    gradients = [_gradients(ours.fusion), _gradients(peer.model.multi_modal_projector)]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)
    ours.zero_grad()
    peer.zero_grad()
    return {"loss, ours": losses[0].item(), "loss, peer": losses[1].item()}


def _gradients(module: torch.nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


def variants(sizes: Sizes, steps: int, folder: Path) -> tuple[Mapping[str, Any], dict[str, float]]:
    """Build the four variants; return their runners and the compared losses."""
    ours, processor = build_ours(sizes)
    peer = build_peer(sizes, ours)
    rows = make_rows(sizes, processor, 4 * BATCH)
    losses = check_equal(ours, processor, peer, rows, sizes)
    peer_rows = [peer_row(row, sizes, processor) for row in rows]
    store = store_features(ours, rows, folder / "features")
    args = training(folder, steps)
    half = copy.deepcopy(peer).to(torch.bfloat16)
    runners = {
        PEER: peer_runner(peer, peer_rows, args),
        PEER_BF16: peer_runner(half, peer_rows, args),
        OURS: our_runner(copy.deepcopy(ours), processor, Rows(rows), args),
        STORED: our_runner(ours, processor, StoredRows(rows, store), args),
    }
    return runners, losses


def main() -> None:
    """Measure and print."""
    parser = arguments(str(__doc__).partition("\n")[0])
    parser.add_argument("--steps", type=int, default=3, help="timed steps per round")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    sizes, steps = QUICK if options.quick else FULL, options.steps
    rounds = options.rounds or (2 if options.quick else 5)
    with tempfile.TemporaryDirectory() as folder:
        runners, losses = variants(sizes, steps, Path(folder))
        series = interleave(runners, steps * BATCH, rounds)
    ratios = {
        f"{ours} / {peer}": ratio(series[peer], series[ours])
        for ours in (OURS, STORED)
        for peer in (PEER, PEER_BF16)
    }
    title = "alignment stage, samples per second"
    show(title, series, ratios, "samples/s", as_json=options.json, extra=losses)


if __name__ == "__main__":
    main()
