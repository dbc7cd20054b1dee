"""Options that several commands share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.output import Output, session

AGAIN = "the same command"
"""What continues a command that was stopped, where repeating it does."""


@dataclass(frozen=True)
class CommonOptions:
    """What every command takes."""

    as_json: Annotated[
        bool, typer.Option("--json", help="Write one JSON object to stdout and nothing else.")
    ] = False
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback and the libraries' own messages.")
    ] = False

    def session(self, resume: str | None = None) -> AbstractContextManager[Output]:
        """Run a command's body as these options say; ``resume`` and errors as of ``session``."""
        trust = isinstance(self, _Trust) and self.trust_remote_code
        return session(as_json=self.as_json, debug=self.debug, resume=resume, trust=trust)


@dataclass(frozen=True)
class _Trust:
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Run the Python files of model folders that bring their own (auto_map). Read them "
            "first.",
        ),
    ] = False


@dataclass(frozen=True)
class _Device:
    device: Annotated[
        str,
        typer.Option(help="Device to run on: auto (an accelerator if there is one), cpu, cuda."),
    ] = "auto"


@dataclass(frozen=True)
class _Dtype:
    dtype: Annotated[
        str,
        typer.Option(
            help="Numbers to compute with: auto (as stored), float32, bfloat16 or float16."
        ),
    ] = "auto"


@dataclass(frozen=True)
class FolderOptions(CommonOptions, _Trust):
    """The same for commands that read model folders."""


@dataclass(frozen=True)
class DeviceOptions(FolderOptions, _Device):
    """The same for commands that compute."""


@dataclass(frozen=True)
class ModelOptions(DeviceOptions, _Dtype):
    """The same for commands that run a model."""


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
        help="Training of every arm in steps, samples, flops or minutes. "
        "[default: each recipe's own steps]",
    ),
]
FromScratchOption = Annotated[
    bool,
    typer.Option(
        "--from-scratch",
        help="Leave out the starts that ship with the world: fusion and bridge begin at random.",
    ),
]
StudyDataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder of training data and benchmark files. [default: a world is made]",
    ),
]
QuestionsOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only so many questions per benchmark.")
]
JobsOption = Annotated[
    int, typer.Option(min=1, help="Trials at a time, each in a process of one thread.")
]


@dataclass(frozen=True)
class ApiOptions:
    """How models behind an API are asked."""

    concurrency: Annotated[
        int,
        typer.Option(min=1, help="Questions asked at the same time, for a model behind an API."),
    ] = 8
    prices: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="IN OUT", help="Prices of a million tokens read and written, for the cost."
        ),
    ] = None


@dataclass(frozen=True)
class ServedOptions(ApiOptions):
    """The same for commands that read boxes of such models alone."""

    box_style: Annotated[
        str, typer.Option(help="How a model behind an API writes boxes: shikra, lion, int1000.")
    ] = "shikra"
