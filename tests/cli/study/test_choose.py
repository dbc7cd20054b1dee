"""``manyeyes choose`` from the command line, and the mistakes that it names before any work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioned import save_captioned
from cli_runs import invoke, the_object
from manyeyes.study.choosing import candidates


def test_a_world_is_ranked_with_a_probe_beside(world: Path, parts: Path, tmp_path: Path) -> None:
    words = [f"clip={parts / 'clip'}", f"dinov2={parts / 'dinov2'}", "--data", world]
    words += ["--language", parts / "llama", "--size", "world", "--sample", 24]
    result = invoke("choose", *words, "--out", tmp_path / "choice", "--json")
    assert result.exit_code == 0, result.stderr
    found = the_object(result)
    assert len(found["sets"]) == 3 and found["headline"].endswith(("it.", "2.", "clip."))
    assert set(found["blind"]) == {"presence"}
    assert set(found["encoders"][0]["probes"]) == {"presence"}
    assert f"--data {world} --out study" in found["command"]
    stored = json.loads((tmp_path / "choice" / "choose.json").read_text())
    assert stored["sets"] == found["sets"] and stored["command"] == found["command"]


def test_a_recipe_brings_its_language_model(recipe: Path, tmp_path: Path) -> None:
    data = save_captioned(tmp_path / "pictures")
    words = [recipe, "--train", data, "--images", tmp_path / "pictures", "--most", 1]
    result = invoke("choose", *words, "--out", tmp_path / "choice", "--size", "world")
    assert result.exit_code == 0, result.stderr
    assert "most like the language model" in result.stdout
    assert "26 pictures have a text: all are read" in result.stderr
    assert f"--train {data} --images" in result.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dinvo2", "clip"], "no encoder, recipe or method 'dinvo2' (did you mean 'dinov2'?)"),
        (["mlcd", "clip"], "mlcd is a family of encoders: say which, mlcd=CHECKPOINT"),
        (["clip/wrld", "comm"], "did you mean 'clip/world'"),
        (["clip", "clip"], "are one encoder twice"),
        (["clip"], "at least two encoders"),
        (["comm", "--text-level", "99"], "--text-level 99 does not exist"),
        (["comm", "--level", "99"], "level 99 does not exist"),
        (["comm", "--task", "count"], "give its labels with --labels"),
        (["comm", "--judge", "study"], "--judge takes a finished study"),
    ],
)
def test_mistakes_are_told_before_any_weights_are_read(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = save_captioned(tmp_path / "pictures")
    monkeypatch.setattr(candidates, "open_eye", None, raising=False)
    result = invoke("choose", *words, "--size", "world", "--train", data, "--out", tmp_path / "out")
    assert result.exit_code in (1, 2) and said in result.stderr
    assert not (tmp_path / "out").exists()


def test_data_must_be_said_once(tmp_path: Path) -> None:
    result = invoke("choose", "comm/world", "--out", tmp_path)
    assert result.exit_code == 2 and "from --train FILE, or from --data DIR" in result.stderr
    result = invoke("choose", "comm/world", "--train", "a.json", "--data", "b", "--out", tmp_path)
    assert result.exit_code == 2 and "not from both" in result.stderr


def test_encoders_alone_need_a_language_model(parts: Path, tmp_path: Path) -> None:
    data = save_captioned(tmp_path / "pictures")
    pair = [f"clip={parts / 'clip'}", f"dinov2={parts / 'dinov2'}"]
    result = invoke("choose", *pair, "--train", data, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "name one with --language" in result.stderr


def test_nothing_is_judged_before_it_is_chosen(tmp_path: Path) -> None:
    result = invoke("choose", "--judge", tmp_path, "--out", tmp_path / "choice")
    assert result.exit_code == 1 and "choose.json" in result.stderr
