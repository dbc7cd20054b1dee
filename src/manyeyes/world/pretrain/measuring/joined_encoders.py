"""Do two encoders together see more than one? Probes of joined features beside a control.

The control is two levels of one encoder, joined to the same width: a second encoder helps only
where it beats that. Every figure is a mean over seeds (each with its own scenes and its own probe)
with its spread; a difference counts when it exceeds three spreads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from torch import Tensor

from manyeyes.files import write_text
from manyeyes.world.pretrain.measuring.features import (
    Source,
    joined,
    part_source,
    pixel_source,
    random_source,
)
from manyeyes.world.pretrain.measuring.gate import GATED, PASS, GateResult
from manyeyes.world.pretrain.measuring.probe import PROBED
from manyeyes.world.pretrain.measuring.vision import CONTROL_LEVELS, PROBE_SCENES, probe_set
from manyeyes.world.pretrain.sizes import LAYERS

PAIRS = (("clip", "dinov2"), ("clip", "mae"), ("dinov2", "mae"))
PARTS = ("clip", "dinov2", "mae")
LOW, HIGH = CONTROL_LEVELS
ROWS: dict[str, tuple[tuple[str, int], ...]] = {
    **{f"{part} {HIGH}": ((part, HIGH),) for part in PARTS},
    **{f"{one} {HIGH} + {two} {HIGH}": ((one, HIGH), (two, HIGH)) for one, two in PAIRS},
    **{f"control: {part} {LOW} + {HIGH}": ((part, LOW), (part, HIGH)) for part in PARTS},
    f"random ViT {LAYERS}": (("random ViT", LAYERS),),
    "raw patch pixels": (("raw patch pixels", 0),),
}
"""Name of each compared row and the levels that it joins."""

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class SeedSpread:
    """Mean and standard deviation of one figure over the seeds."""

    mean: float
    spread: float


Comparison = dict[str, dict[str, SeedSpread]]


def compare(
    parts: Path,
    seeds: Sequence[int] = SEEDS,
    sizes: tuple[int, int] = PROBE_SCENES,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Probe single parts, pairs, controls and untrained features found under ``parts``."""
    figures: dict[str, dict[str, list[float]]] = {}
    sources = _sources(parts)
    for seed in seeds:
        data = probe_set(seed, sizes)
        train = {name: source(data.pictures) for name, source in sources.items()}
        held = {name: source(data.held_pictures) for name, source in sources.items()}
        for name, wanted in ROWS.items():
            result = data.run(_features(train, wanted), _features(held, wanted), seed)
            row = figures.setdefault(name, {figure: [] for figure in PROBED})
            for figure, value in result.figures.items():
                row[figure].append(value)
            if progress is not None:
                progress(f"seed {seed}: {name}")
    return {
        name: {figure: SeedSpread(mean(values), _spread(values)) for figure, values in row.items()}
        for name, row in figures.items()
    }


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _sources(parts: Path) -> dict[str, Source]:
    trained = {name: part_source(name, parts / name) for name in PARTS}
    return {**trained, "random ViT": random_source(0), "raw patch pixels": pixel_source}


def _features(levels: Mapping[str, Sequence[Tensor]], wanted: Sequence[tuple[str, int]]) -> Tensor:
    return joined([levels[source][level] for source, level in wanted])


def gains(comparison: Comparison) -> list[str]:
    """Say where a pair beats both of its controls by more than three spreads."""
    lines = []
    for one, two in PAIRS:
        name = f"{one} {HIGH} + {two} {HIGH}"
        controls = [comparison[f"control: {part} {LOW} + {HIGH}"] for part in (one, two)]
        for figure, pair in comparison[name].items():
            sign = -1 if figure.endswith("_px") else 1
            best = max((c[figure] for c in controls), key=lambda value: sign * value.mean)
            if sign * (pair.mean - best.mean) > 3 * max(pair.spread, best.spread):
                lines.append(f"- {name}: {figure} {pair.mean:.3f} against {best.mean:.3f}.")
    return lines


def write_comparison(
    comparison: Comparison, gates: Sequence[GateResult], parts: Path, seeds: int = len(SEEDS)
) -> None:
    """Write ``compared.json`` and ``README.md`` into the folder of all parts."""
    record = {
        "seeds": seeds,
        "probes": {
            name: {figure: [round(v.mean, 5), round(v.spread, 5)] for figure, v in row.items()}
            for name, row in comparison.items()
        },
        "gate": [vars(gate) for gate in gates],
    }
    write_text(parts / "compared.json", json.dumps(record, indent=2) + "\n")
    write_text(parts / "README.md", _readme(comparison, gates, seeds))


def _readme(comparison: Comparison, gates: Sequence[GateResult], seeds: int) -> str:
    gained = gains(comparison)
    lines = [
        "# The world's parts",
        "",
        "Small models for 48 x 48 pictures of `manyeyes.world`, trained from seed by",
        "`manyeyes world pretrain` and stored as ordinary Hugging Face folders. Every folder has",
        "its card: data, seed, steps, and what was measured. `dinov2` started from the encoder of",
        "`mae`, `language` from the part before it.",
        "",
        "The comparison below is of the three vision encoders. `t5`, the encoder-decoder",
        "language model of `lion/world-t5`, can be trained (`--part t5`) and does not ship: after",
        "an hour on one core (4,414 steps, boxes still in digits) it answered 21 % of held-out",
        "questions about layouts exactly, and 19 % with the scene withheld.",
        "",
        "## What linear probes read",
        "",
        "Accuracy 0..1 (`place_px`: mean distance in pixels, less is better), frozen features,",
        f"mean over {seeds} seeds; the greatest spread of a column stands in the last row.",
        "",
        *_table(comparison),
        "",
        "## Does a second encoder help?",
        "",
        "It does where the pair beats two levels of either encoder alone (the controls) by more",
        "than three spreads:",
        "",
        *(gained or ["- nowhere, by this measure."]),
        "",
        "## Can the world be read at all?",
        "",
        "A supervised ViT of the same size, one run each, accuracy on held-out objects. The gate",
        f"asks for more than {PASS} in {', '.join(GATED)}.",
        "",
        *_gate_table(gates),
    ]
    return "\n".join(lines) + "\n"


def _table(comparison: Mapping[str, Mapping[str, SeedSpread]]) -> list[str]:
    rows = ["| | " + " | ".join(PROBED) + " |", "|---" * (len(PROBED) + 1) + "|"]
    for name, row in comparison.items():
        rows.append(f"| {name} | " + " | ".join(f"{row[f].mean:.3f}" for f in PROBED) + " |")
    widest = [max(row[f].spread for row in comparison.values()) for f in PROBED]
    return [*rows, "| *greatest spread* | " + " | ".join(f"{v:.3f}" for v in widest) + " |"]


def _gate_table(gates: Sequence[GateResult]) -> list[str]:
    names = list(gates[0].accuracy) if gates else []
    head = ["patch px", *names, "objects", "images seen", "seconds", "passed"]
    rows = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for gate in gates:
        cells = [f"{gate.accuracy[name]:.3f}" for name in names]
        tail = [str(gate.objects), f"{gate.images:,}", f"{gate.seconds:.0f}", _yes(gate.passed)]
        rows.append("| " + " | ".join([str(gate.patch), *cells, *tail]) + " |")
    return rows


def _yes(value: bool) -> str:
    return "yes" if value else "no"
