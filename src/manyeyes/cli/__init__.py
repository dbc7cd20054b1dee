"""The command line: one file per command, one line per command in the tables below."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Annotated

import typer
from rich.markup import escape

from manyeyes.cli import chat, detect, evaluate, export, score, serve, tag, train
from manyeyes.cli.check import check, get
from manyeyes.cli.convert import adapter, data, gguf, lavis, lion, tasks
from manyeyes.cli.groups import flat
from manyeyes.cli.parsing import JsonCommand, JsonGroup
from manyeyes.cli.recipes import keys, new, recipes, show
from manyeyes.cli.study import ablate, choose, claims, compare, demo, explain, probe, report
from manyeyes.cli.world import make, pretrain

Command = tuple[Callable[..., None], tuple[str, ...]]
"""The function that typer turns into a command, and the examples under its ``--help``."""

COMMANDS: Mapping[str, Command] = {
    "demo": (demo.demo, demo.EXAMPLES),
    "recipes": (recipes.recipes, recipes.EXAMPLES),
    "show": (show.show, show.EXAMPLES),
    "keys": (keys.keys, keys.EXAMPLES),
    "new": (new.new, new.EXAMPLES),
    "check": (check.check, check.EXAMPLES),
    "train": (train.train, train.EXAMPLES),
    "evaluate": (evaluate.evaluate, evaluate.EXAMPLES),
    "compare": (compare.compare, compare.EXAMPLES),
    "claims": (claims.claims, claims.EXAMPLES),
    "report": (report.report, report.EXAMPLES),
    "score": (score.score, score.EXAMPLES),
    "choose": (choose.choose, choose.EXAMPLES),
    "probe": (probe.probe, probe.EXAMPLES),
    "ablate": (ablate.ablate, ablate.EXAMPLES),
    "explain": (explain.explain, explain.EXAMPLES),
    "detect": (detect.detect, detect.EXAMPLES),
    "tag": (tag.tag, tag.EXAMPLES),
    "chat": (chat.chat, chat.EXAMPLES),
    "serve": (serve.serve, serve.EXAMPLES),
    "export": (export.export, export.EXAMPLES),
}
WORLD_COMMANDS: Mapping[str, Command] = {
    "make": (make.make, make.EXAMPLES),
    "pretrain": (pretrain.pretrain, pretrain.EXAMPLES),
}
DATA_COMMANDS: Mapping[str, Command] = {
    "get": (get.get, get.EXAMPLES),
}
CONVERT_COMMANDS: Mapping[str, Command] = {
    "data": (data.data, data.EXAMPLES),
    "tasks": (tasks.tasks, tasks.EXAMPLES),
    "gguf": (gguf.gguf, gguf.EXAMPLES),
    "lavis": (lavis.lavis, lavis.EXAMPLES),
    "lion": (lion.lion, lion.EXAMPLES),
    "llama-adapter-v2": (adapter.llama_adapter_v2, adapter.EXAMPLES),
}


def build_app() -> typer.Typer:
    """Return the typer application with all commands."""
    app = typer.Typer(
        name="manyeyes",
        cls=JsonGroup,
        help="Multimodal LLMs that see through several vision encoders.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_options)
    _add(app, COMMANDS)
    _add_group(app, "data", "The files of benchmarks.", DATA_COMMANDS)
    _add_group(app, "convert", "Data and checkpoints from other forms.", CONVERT_COMMANDS)
    _add_group(app, "world", "The built-in world: its data and its parts.", WORLD_COMMANDS)
    return app


def main() -> None:
    """Run the command line; the process ends with the exit code 0, 1, 2 or 130 (Ctrl-C)."""
    build_app()(prog_name="manyeyes")


def _add(app: typer.Typer, commands: Mapping[str, Command]) -> None:
    for name, (function, examples) in commands.items():
        title = "Example" if len(examples) == 1 else "Examples"
        lines = [f"[bold]{title}[/bold]", *(escape(example) for example in examples)]
        text = inspect.getdoc(function) or ""
        epilog = "\n\n".join(lines)
        app.command(name, cls=JsonCommand, help=_unwrapped(text), epilog=epilog)(flat(function))


def _add_group(app: typer.Typer, name: str, text: str, commands: Mapping[str, Command]) -> None:
    group = typer.Typer(cls=JsonGroup, no_args_is_help=True, rich_markup_mode="rich")
    _add(group, commands)
    app.add_typer(group, name=name, help=text)


def _unwrapped(text: str) -> str:
    """Join the lines of every paragraph: the terminal's width decides where they break."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(version("manyeyes"))
        raise typer.Exit


def _options(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and end.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options of ``manyeyes`` itself."""
