"""Every command: help with examples that parse, exit code 2 for wrong usage."""

from __future__ import annotations

import shlex

import pytest
import typer.main

from cli_runs import invoke
from manyeyes.cli import COMMANDS, DATA_COMMANDS, WORLD_COMMANDS, build_app

ALL = {
    **{(name,): examples for name, (_, examples) in COMMANDS.items()},
    **{("world", name): examples for name, (_, examples) in WORLD_COMMANDS.items()},
    **{("data", name): examples for name, (_, examples) in DATA_COMMANDS.items()},
}


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_help_shows_every_example(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = invoke(*command, "--help")
    shown = " ".join(result.stdout.split())
    assert result.exit_code == 0
    assert ALL[command]
    for example in ALL[command]:
        assert example in shown


@pytest.mark.parametrize("example", [example for examples in ALL.values() for example in examples])
def test_every_example_is_valid_usage(example: str) -> None:
    group = typer.main.get_command(build_app())
    program, *words = shlex.split(example)
    while hasattr(group, "commands"):
        group = group.commands[words.pop(0)]
    context = group.make_context(program, list(words))
    assert context.params["as_json"] == ("--json" in words)


@pytest.mark.parametrize(
    "words", [["chek"], ["check"], ["train", "a", "--nope"], ["evaluate", "m"], ["world"]]
)
def test_wrong_usage_is_exit_code_2(words: list[str]) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_version_is_the_packages() -> None:
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.stdout.strip().count(".") >= 2
