"""``manyeyes ablate``: what each encoder, tag and box of a trained model is worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyeyes.cli.evaluate import known_benchmarks
from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import (
    AGAIN,
    AnswersOption,
    BatchSizeOption,
    BenchmarkDataOption,
    BenchmarksOption,
    LimitOption,
    ModelArgument,
    ModelOptions,
    SplitOption,
)
from manyeyes.files import held

if TYPE_CHECKING:
    from manyeyes.inference.predictor import ModelPredictor

EXAMPLES = (
    "manyeyes ablate runs/comm/model --benchmark vqa --benchmark rec --data data",
    "manyeyes ablate runs/comm/model -b pope --mask shuffle --subsets --data data --json",
)


@dataclass(frozen=True)
class MaskOptions:
    """What is masked."""

    mask: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="zero, mean or shuffle; all of them by default."),
    ] = None
    subsets: Annotated[bool, typer.Option("--subsets", help="Mask every subset of encoders.")] = (
        False
    )


@dataclass(frozen=True)
class TruthOptions:
    """What is true of the images, and what counts as no difference."""

    objects: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="True objects (COCO layout), for models that name them."),
    ] = None
    tags: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="True tags, for models that read them."),
    ] = None
    margin: Annotated[
        float,
        typer.Option(
            min=0.0, help="An encoder is redundant if its CUR is surely no further from 0."
        ),
    ] = 0.02


def ablate(
    model: ModelArgument,
    data: BenchmarkDataOption,
    benchmark: BenchmarksOption = None,
    *,
    masks: MaskOptions,
    split: SplitOption = "test",
    limit: LimitOption = None,
    truth: TruthOptions,
    out: AnswersOption = None,
    batch_size: BatchSizeOption = 32,
    common: ModelOptions,
) -> None:
    """Ask a trained model again with each of its encoders masked, and all of them.

    Per task group: the conditional utilization rate of every encoder and the information gap, with
    intervals clustered by image, and whether it is useful, redundant or harmful. Tags and objects
    in the prompt are taken away, swapped between images, or replaced by the true ones.
    """
    with common.session(resume=AGAIN) as output:
        from manyeyes.inference.masks import MASKS
        from manyeyes.study.ablation import ablate as study

        quiet_libraries(debug=common.debug)
        names = known_benchmarks(benchmark or [])
        base = _predictor(model, data, split, truth.tags, batch_size, common)
        place = Path(model)
        folder = out or (place.parent if place.is_dir() else Path()) / f"ablation-{split}"
        plan = study.Ablation(
            benchmarks=names,
            data_dir=data,
            split=split,
            out=folder,
            limit=limit,
            masks=masks.mask or tuple(MASKS),
            subsets=masks.subsets,
            objects=truth.objects,
            tags=truth.tags,
            margin=truth.margin,
        )
        with held(folder):
            with output.progress() as report:
                result = study.ablate(base, plan, report)
            study.write_ablation(result, folder)
        output.line(study.ablation_table(result))
        output.line(f"answers, table and results: {folder}")
        output.result({**vars(result), "out": folder})


def _predictor(
    model: str, data: Path, split: str, tags: Path | None, batch_size: int, common: ModelOptions
) -> ModelPredictor:
    """Load the model; true tags are given to it only where it has no tagger of its own."""
    from manyeyes.inference.perceived import PerceivedImages, tags_in_data
    from manyeyes.inference.predictor import ModelPredictor
    from manyeyes.inference.tagging import tagger_spec
    from manyeyes.model.loading import load_autocast

    loaded, processor, half = load_autocast(model, dtype=common.dtype, device=common.device)
    file = None if tagger_spec(loaded) else tags
    perceived = PerceivedImages(tags_in_data(loaded, data, split, file=file))
    return ModelPredictor(loaded, processor, batch_size=batch_size, dtype=half, perceived=perceived)
