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
