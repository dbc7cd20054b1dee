"""``manyeyes ablate``: what each encoder, tag and box of a trained model is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.evaluate import known_benchmarks
from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import (
    AnswersOption,
    BatchSizeOption,
    BenchmarkDataOption,
    BenchmarksOption,
    DebugOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    LimitOption,
    ModelArgument,
    SplitOption,
    TrustOption,
)
from manyeyes.cli.output import session
from manyeyes.files import held

EXAMPLES = (
    "manyeyes ablate runs/comm/model --benchmark vqa --benchmark rec --data data",
    "manyeyes ablate runs/comm/model -b pope --mask shuffle --subsets --data data --json",
)


def ablate(
    model: ModelArgument,
    data: BenchmarkDataOption,
    benchmark: BenchmarksOption = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="zero, mean or shuffle; all of them by default."),
    ] = None,
    subsets: Annotated[
        bool, typer.Option("--subsets", help="Mask every subset of encoders.")
    ] = False,
    split: SplitOption = "test",
    limit: LimitOption = None,
    objects: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="True objects (COCO layout), for models that name them."),
    ] = None,
    tags: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="True tags, for models that read them."),
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0.0, help="A CUR surely within this share of 0 is redundant.")
    ] = 0.02,
    out: AnswersOption = None,
    batch_size: BatchSizeOption = 32,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Ask a trained model again with each of its encoders masked, and all of them.

    Per task group: the conditional utilization rate of every encoder and the information gap, with
    intervals clustered by image, and whether it is useful, redundant or harmful. Tags and objects
    in the prompt are taken away, swapped between images, or replaced by the true ones.
    """
    with session(
        as_json=as_json, debug=debug, resume="the same command", trust=trust_remote_code
    ) as output:
        from manyeyes.inference.masks import MASKS
        from manyeyes.inference.perceived import PerceivedImages, tags_in_data
        from manyeyes.inference.predictor import ModelPredictor
        from manyeyes.inference.tagging import tagger_spec
        from manyeyes.model.loading import autocast_dtype, load_model
        from manyeyes.study.ablation import ablate as study

        quiet_libraries(debug=debug)
        names = known_benchmarks(benchmark or [])
        stored = "float32" if dtype == "float32" else "auto"
        loaded, processor = load_model(model, dtype=stored, device=device)
        file = None if tagger_spec(loaded) else tags
        base = ModelPredictor(
            loaded,
            processor,
            batch_size=batch_size,
            dtype=autocast_dtype(dtype),
            perceived=PerceivedImages(tags_in_data(loaded, data, split, file=file)),
        )
        place = Path(model)
        folder = out or (place.parent if place.is_dir() else Path()) / f"ablation-{split}"
        plan = study.Ablation(
            benchmarks=names,
            data_dir=data,
            split=split,
            out=folder,
            limit=limit,
            masks=mask or tuple(MASKS),
            subsets=subsets,
            objects=objects,
            tags=tags,
            margin=margin,
        )
        with held(folder):
            with output.progress() as report:
                result = study.ablate(base, plan, report)
            study.write_ablation(result, folder)
        output.line(study.ablation_table(result))
        output.line(f"answers, table and results: {folder}")
        output.result({**vars(result), "out": folder})
