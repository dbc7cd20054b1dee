"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[
    bool, typer.Option("--json", help="Write one JSON object to stdout and nothing else.")
]
DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show the traceback and the libraries' own messages.")
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run the Python files of model folders that bring their own (auto_map). Read them "
        "first.",
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Folder of a trained model, for example runs/comm/model, or a hub id."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the recipe, e.g. training.max_steps=24. May be repeated.",
    ),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Folder the data files lie in.")
]
PresetOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="How answers are decoded: greedy, or lion-official (5 beams, repetition penalty 1.5).",
    ),
]
DtypeOption = Annotated[
    str,
    typer.Option(help="Numbers to compute with: auto (as stored), float32, bfloat16 or float16."),
]
DeviceOption = Annotated[
    str, typer.Option(help="Device to run on: auto (an accelerator if there is one), cpu, cuda.")
]
BenchmarkDataOption = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", help="Folder that holds the benchmarks' files."),
]
BenchmarksOption = Annotated[
    list[str] | None,
    typer.Option("--benchmark", "-b", metavar="NAME", help="vqa, rec, ... May be repeated."),
]
VariantsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--variant", metavar="BENCHMARK=NAME", help="Another scoring rule. May be repeated."
    ),
]
SplitOption = Annotated[str, typer.Option(help="Which split of the data.")]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Only so many items per benchmark, evenly spaced.")
]
AnswersOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Folder for answers and results; default: by the model."
    ),
]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Questions generated together.")]
NewFolderOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder to write; new or empty.")
]
StudyFolderOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder of the study.")
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="UNIT=AMOUNT",
        help="Of every arm: steps, samples, flops or minutes; else each recipe's own steps.",
    ),
]
StudyDataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Training data and benchmark files; else a world's own.",
    ),
]
QuestionsOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only so many questions per benchmark.")
]
JobsOption = Annotated[
    int, typer.Option(min=1, help="Trials at a time, each in a process of one thread.")
]
