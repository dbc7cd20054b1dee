"""Results on stdout, everything else on stderr; errors, Ctrl-C and warnings as one line each."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import pytest
import torch
import typer

from cli_runs import invoke, the_object
from manyeyes.cli.output import Output, PlainProgress, jsonable, session
from manyeyes.errors import DataError, UsageError


def test_prints_of_libraries_leave_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with session(as_json=True, debug=False) as output:
        print("loading")
        output.show("a table")
        output.line("a line")
        output.write("a piece")
        output.result({"n": 1})
    streams = capsys.readouterr()
    assert streams.out == '{"n": 1}\n'
    assert "loading" in streams.err


def test_without_json_people_read_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    with session(as_json=False, debug=False) as output:
        output.line("[literally] this")
        output.write("red\x1b[31m\n")
        output.result({"n": 1})
    assert capsys.readouterr().out == "[literally] this\nred[31m\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("is empty", file="a.json", line=3, key="id"), 1),
        (UsageError("give one"), 2),
        (OSError(28, "No space left on device"), 1),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), 1),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as stopped, session(as_json=False, debug=False):
        raise error
    streams = capsys.readouterr()
    assert stopped.value.exit_code == code
    assert streams.err == f"error: {error}\n"
    assert streams.out == ""


def test_an_error_with_json_is_the_object(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), session(as_json=True, debug=False):
        raise DataError("is empty", file="a.json", line=3, key="id")
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {
        "type": "DataError",
        "message": "a.json:3: id: is empty",
        "file": "a.json",
        "line": 3,
        "key": "id",
    }


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), session(as_json=False, debug=True):
        raise UsageError("give one")
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stopped, session(as_json=False, debug=False, resume="again"):
        raise KeyboardInterrupt("stopped after step 3")
    assert stopped.value.exit_code == 130
    assert capsys.readouterr().err == "interrupted; stopped after step 3; continue with: again\n"


def test_a_mistake_in_the_program_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), session(as_json=False, debug=False):
        raise ZeroDivisionError


def test_with_json_a_mistake_in_the_program_is_an_object_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ZeroDivisionError), session(as_json=True, debug=False):
        raise ZeroDivisionError("division by zero")
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {"type": "ZeroDivisionError", "message": "division by zero"}


def test_a_result_that_is_no_json_does_not_take_the_errors_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(TypeError), session(as_json=True, debug=False) as output:
        output.result({"n": object()})
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "TypeError"


def test_json_is_written_whatever_the_terminals_letters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    for encoding, text in (("ascii", "Größe"), ("utf-8", "half \ud83d"), ("utf-8", "Größe")):
        with path.open("w", encoding=encoding) as stream:
            Output(stream, as_json=True).result({"answer": text})
        assert json.loads(path.read_bytes().decode(encoding)) == {"answer": text}
    assert "Größe".encode() in path.read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check"], "Missing argument"),
        (["check", "comm/world", "--bogus"], "No such option"),
        (["chat", "m", "--max-new-tokens", "many"], "Invalid value"),
        (["chta", "m"], "No such command"),
        (["world", "mak"], "No such command"),
        (["--bogus", "check"], "No such option"),
    ],
)
def test_wrong_words_with_json_are_an_object(words: list[str], said: str) -> None:
    result = invoke(*words, "--json")
    assert result.exit_code == 2
    error = the_object(result)["error"]
    assert error["type"] == "UsageError"
    assert said in error["message"]
    assert invoke(*words).stdout == ""


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with session(as_json=True, debug=False):
            warnings.warn("five plain\nblocks", stacklevel=1)
    assert capsys.readouterr().err == "warning: five plain blocks\n"


def test_one_object_only() -> None:
    output = Output(sys.stdout, as_json=True)
    output.result({})
    with pytest.raises(RuntimeError, match="one JSON object"):
        output.result({})


def test_later_processes_of_a_job_write_nothing_but_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(typer.Exit), session(as_json=True, debug=False) as output:
        output.note("made")
        output.result({"n": 1})
        raise UsageError("rank 1 failed")
    streams = capsys.readouterr()
    assert (streams.out, streams.err) == ("", "error: rank 1 failed\n")


def test_progress_is_silent_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(sys.stdout, as_json=False)
    with output.progress() as report, output.status("clip") as say:
        report("images", 1, 2)
        say("step 1")
    streams = capsys.readouterr()
    assert streams.out + streams.err == ""


def test_a_log_gets_a_line_every_half_minute_with_the_time_left() -> None:
    times = iter([0.0, 0.0, 20.0, 40.0, 50.0, 75.0])
    said: list[str] = []
    report = PlainProgress(said.append, clock=lambda: next(times))
    for done in (0, 10, 20, 25, 100):
        report("trial 1 of 2, clip: train", done, 100)
    assert said == [
        "trial 1 of 2, clip: train: 20 of 100, about 3 min left",
        "trial 1 of 2, clip: train: 100 of 100",
    ]


def test_json_data_is_plain_and_finite() -> None:
    value = {"path": Path("a"), 1: (1.5, float("nan"), float("inf")), "set": {2}}
    assert jsonable(value) == {"path": "a", "1": [1.5, None, None], "set": [2]}
