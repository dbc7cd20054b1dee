"""Options in groups: what typer reads of a command, and what the command is given."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from cli_runs import invoke
from manyeyes.cli.groups import flat
from manyeyes.cli.options import CommonOptions, ModelOptions

given: list[Any] = []


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option(min=1)]
    names: Annotated[list[str] | None, typer.Option("--name")] = None


def build(
    place: Annotated[str, typer.Argument()], size: Size, common: CommonOptions, deep: bool = False
) -> None:
    given.append((place, size, common, deep))


def run(*words: str) -> Any:
    app = typer.Typer()
    app.command()(flat(build))
    return CliRunner().invoke(app, list(words))


def test_fields_stand_in_their_groups_place_and_arrive_as_the_group() -> None:
    names = list(inspect.signature(flat(build)).parameters)
    assert names == ["place", "width", "names", "as_json", "debug", "deep"]
    done = run("here", "--width", "3", "--name", "a", "--name", "b", "--json", "--deep")
    assert done.exit_code == 0, done.stderr
    assert given.pop() == ("here", Size(3, ["a", "b"]), CommonOptions(as_json=True), True)


def test_fields_keep_their_defaults_and_their_checks() -> None:
    assert run("here", "--width", "3").exit_code == 0
    assert given.pop() == ("here", Size(3), CommonOptions(), False)
    assert "--width" in run("here").stderr  # without a default it must be given
    assert run("here", "--width", "0").exit_code == 2


def test_options_of_a_base_stand_behind_those_added() -> None:
    def act(common: ModelOptions) -> None: ...

    names = list(inspect.signature(flat(act)).parameters)
    assert names == ["dtype", "device", "trust_remote_code", "as_json", "debug"]


def test_resume_repeats_the_words_as_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("manyeyes.cli.train.sized", stopped)
    words = ("train", "comm/world", "--track", "trackio", "--set", "training.max_steps=4")
    shown = "manyeyes train comm/world --track trackio --set training.max_steps=4 --resume"
    assert invoke(*words).stderr.strip().endswith(f"continue with: {shown}")
    assert invoke(*words, "--resume").stderr.count("--resume") == 1
