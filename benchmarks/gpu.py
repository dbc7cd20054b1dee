"""One GPU in ten minutes: training steps of a 7B model, its peak memory, and decoding.

A 7B Llama behind CLIP-L and DINOv2-L (COMM), random weights, on conversations drawn by the shares
of LLaVA-1.5's mixture (see ``packing.py``); LLaVA of transformers under its Trainer beside it. What
does not fit by `manyeyes check` is left out and said.

    python benchmarks/gpu.py [--tiny] [--batch 4] [--steps 5] [--json]

MFU: floating-point operations of forward and backward, counted by PyTorch, padding included, over
the time of the whole step and the GPU's published peak in bfloat16. Elsewhere than on a GPU that is
known (``study/costs/gpus.py``) the peak is the rate of matrix products measured here.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from adapter_decoding import PROMPTS, left_padded, writers
from alignment_step import AfterFirstStep, Rows, timed
from generate import timed as timed_call
from packing import our_trainer, rows_of_the_mix
from pair import Row, Sizes, peer_collate, peer_row, picture, text_config, words
from peaks import GIB, last_step_peak
from rich.console import Console
from rich.table import Table
from seven_billion import (
    FULL,
    LORA,
    PROJECTOR,
    SEVEN_B,
    TINY,
    TRAIN,
    StoredRows,
    arguments_of,
    build_ours,
    build_peer,
    device,
    let_learn,
    recipe,
    store_features,
)
from timing import interleave, machine
from torch.utils.flop_counter import FlopCounterMode
from transformers import Trainer

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.bridge import Given
from manyeyes.bridge.adapter_prompts import AdapterPromptsBridge, AdapterPromptsOptions
from manyeyes.layers.adapters.lora import lora_layers
from manyeyes.records import Sample, Turn
from manyeyes.study.costs.gpus import this_gpu
from manyeyes.study.costs.recipe import inspect_recipe
from manyeyes.study.costs.stage import ANSWER_TOKENS, TEXT_TOKENS, measure_rate

OURS: Sequence[tuple[str, bool, bool]] = (
    (PROJECTOR, False, False),
    (PROJECTOR, False, True),
    (LORA, False, False),
    (LORA, True, False),
    (LORA, True, True),
    (FULL, False, False),
    (FULL, True, True),
)
"""What learns, packing, stored features."""


@dataclass(frozen=True)
class Speed:
    """Of training steps: samples and supervised tokens per second, operations per second, MFU."""

    samples: float
    tokens: float
    operations: float
    mfu: float


@dataclass(frozen=True)
class Job:
    """What all variants share: ``peak`` is operations per second, ``memory`` bytes of the GPU."""

    sizes: Sizes
    batch: int
    steps: int
    folder: Path
    peak: float
    memory: float | None

    @functools.cache  # noqa: B019
    def estimate(self, tuning: str) -> int:
        """Bytes of one step's peak by `manyeyes check`."""
        stage = inspect_recipe(recipe(self.sizes, tuning, self.batch)).stages[0]
        return stage.memory["bfloat16"].total

    def fits(self, tuning: str) -> bool:
        """Whether that is less than the GPU has."""
        return self.memory is None or self.estimate(tuning) < self.memory


def speed_of(trainer: Trainer, job: Job, supervised: int) -> Speed:
    """Train twice: once with operations counted, once timed; the first step is not in either."""
    run, counter = timed(trainer), AfterFirstStep(lambda: FlopCounterMode(display=False))
    trainer.add_callback(counter)
    trainer.train()
    trainer.remove_callback(counter)
    clock = run()
    rate = counter.clock.get_total_flops() / clock.wall
    samples = job.steps * job.batch / clock.wall
    return Speed(samples, supervised / clock.wall, rate, rate / job.peak)


def supervised_tokens(rows: Sequence[Row]) -> int:
    """Tokens that the rows' losses are over."""
    return sum(int((row["labels"][1:] != -100).sum()) for row in rows)


def our_speeds(
    job: Job, model: ManyEyesForConditionalGeneration, processor: ManyEyesProcessor, rows: list[Row]
) -> Iterator[tuple[str, Speed | str]]:
    """Yield every variant of ours; what does not fit as text."""
    stores = store_features(model.eval(), rows, job.folder / "features")
    args = arguments_of(job.folder, job.steps, job.batch)
    for tuning, packing, stored in OURS:
        said = [tuning, *(["packed"] if packing else []), *(["stored"] if stored else [])]
        name = f"manyeyes, {', '.join(said)}"
        if not job.fits(tuning):
            yield name, f"does not fit: {job.estimate(tuning) / GIB:.1f} GiB by check"
            continue
        model.language_model.set_attn_implementation("sdpa")
        let_learn(model, tuning)
        data = StoredRows(rows, stores) if stored else Rows(rows)
        trainer = our_trainer(model, processor, data, args, packing=packing, train=TRAIN[tuning])
        yield name, speed_of(trainer, job, supervised_tokens(rows[job.batch :]))
        del trainer
        release()


def peer_speeds(
    job: Job, processor: ManyEyesProcessor, rows: list[Row]
) -> Iterator[tuple[str, Speed]]:
    """Yield LLaVA of transformers under its Trainer, with the one encoder it has."""
    their_rows = Rows([peer_row(row, job.sizes, processor) for row in rows])
    args = arguments_of(job.folder, job.steps, job.batch)
    for tuning in (PROJECTOR, LORA):
        peer = build_peer(job.sizes, tuning)
        trainer = Trainer(peer, args, train_dataset=their_rows, data_collator=peer_collate)
        yield f"LLaVA, {tuning}", speed_of(trainer, job, supervised_tokens(rows[job.batch :]))
        del peer, trainer
        release()


def release() -> None:
    """Give freed memory back to the accelerator."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.memory.empty_cache()


def peaks(
    job: Job, model: ManyEyesForConditionalGeneration, processor: ManyEyesProcessor
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield bytes by check and as measured, on rows as long as check takes them to be."""
    for tuning in filter(job.fits, (PROJECTOR, LORA, FULL)):
        model.language_model.set_attn_implementation("sdpa")
        let_learn(model, tuning)
        rows = Rows([row_as_assumed(job.sizes, processor, n) for n in range(2 * job.batch)])
        args = arguments_of(job.folder, 1, job.batch)
        trainer = our_trainer(model, processor, rows, args, packing=False, train=TRAIN[tuning])
        release()
        yield tuning, {"check": job.estimate(tuning), "measured": last_step_peak(trainer)}
        del trainer
        release()


def row_as_assumed(sizes: Sizes, processor: ManyEyesProcessor, number: int) -> Row:
    """One image and as many words as `manyeyes check` assumes; the answer's end is one of them."""
    draw = random.Random(number)
    question = words(sizes, draw, TEXT_TOKENS - ANSWER_TOKENS)
    turns = (
        Turn("user", f"<image>\n{question}"),
        Turn("assistant", words(sizes, draw, ANSWER_TOKENS - 1)),
    )
    return processor.encode(Sample(str(number), ("",), turns), [picture(sizes, number)])


def decoding(job: Job, model: ManyEyesForConditionalGeneration, new: int) -> dict[str, float]:
    """Tokens per second of the language model alone, with LoRA kept apart, with adapter prompts."""
    let_learn(model, LORA)
    language: Any = model.language_model.eval()
    bridge = AdapterPromptsBridge(
        AdapterPromptsOptions(), text_config(job.sizes), Given(0, PROMPTS)
    ).to(device())
    inputs = left_padded(job.sizes, device())
    plain, prompted = writers(language, language, bridge, inputs, new).values()

    def variant(write: Any, *, lora: bool) -> Any:
        def run() -> Any:
            language.set_attn_implementation("sdpa")
            for _, layer in lora_layers(language):
                layer.enable_adapters(lora)
            return timed_call(write)()

        return run

    calls = {
        "plain": variant(plain, lora=False),
        "LoRA": variant(plain, lora=True),
        "adapter prompts": variant(prompted, lora=False),
    }
    for call in calls.values():
        call()
    count = new * len(inputs["input_ids"])
    return {name: item.rate() for name, item in interleave(calls, count, 3).items()}


def measure(job: Job, new: int, scale: float) -> dict[str, Any]:
    """All figures."""
    model, processor = build_ours(job.sizes)
    count = (job.steps + 1) * job.batch
    rows = rows_of_the_mix(job.sizes, processor, count, scale=scale, batch=job.batch)
    speeds: dict[str, Speed | str] = dict(our_speeds(job, model, processor, rows))
    memory = dict(peaks(job, model, processor))
    decoded = decoding(job, model, new)
    del model
    release()
    speeds |= peer_speeds(job, processor, rows)
    said = {n: s if isinstance(s, str) else asdict(s) for n, s in speeds.items()}
    return {"training": said, "memory": memory, "decoding": decoded}


def show(found: Mapping[str, Any]) -> None:
    """Print the figures as tables."""
    steps = Table(title="training steps", title_justify="left")
    for column in ("variant", "samples/s", "supervised tokens/s", "TFLOP/s", "MFU"):
        steps.add_column(column, justify="left" if column == "variant" else "right")
    for name, speed in found["training"].items():
        if isinstance(speed, str):
            steps.add_row(name, speed)
            continue
        figures = f"{speed['samples']:.3g}", f"{speed['tokens']:.3g}"
        steps.add_row(name, *figures, f"{speed['operations'] / 1e12:.3g}", f"{speed['mfu']:.1%}")
    memory = Table("what learns", "check, GiB", "measured, GiB", title="peak of a step")
    for name, peak in found["memory"].items():
        memory.add_row(name, f"{peak['check'] / GIB:.3g}", f"{peak['measured'] / GIB:.3g}")
    decoded = Table("decoding, batch 8", "tokens/s", title="language model, prompt included")
    for name, rate in found["decoding"].items():
        decoded.add_row(name, f"{rate:.3g}")
    Console().print(f"{found['device']}: {found['peak']}", steps, memory, decoded)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--tiny", action="store_true", help="smallest parts: checks that it runs")
    parser.add_argument("--batch", type=int, default=None, help="samples per step")
    parser.add_argument("--steps", type=int, default=None, help="timed steps of each variant")
    options = parser.parse_args()
    tiny, gpu = options.tiny, this_gpu()
    peak = measure_rate(torch.bfloat16) if gpu is None else gpu.bfloat16
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            sizes=TINY if tiny else SEVEN_B,
            batch=options.batch or (2 if tiny else 4),
            steps=options.steps or (1 if tiny else 5),
            folder=Path(folder),
            peak=peak,
            memory=None if gpu is None else gpu.memory,
        )
        found = measure(job, 4 if tiny else 64, 0.1 if tiny else 1.0)
    about = "published" if gpu is not None else "measured"
    found["device"] = str(device()) if gpu is None else gpu.name
    found["peak_operations"] = peak
    found["peak"] = f"{peak / 1e12:.3g} TFLOP/s in bfloat16, {about}"
    if options.json:
        print(json.dumps({**found, "environment": machine()}))
    else:
        show(found)


if __name__ == "__main__":
    main()
