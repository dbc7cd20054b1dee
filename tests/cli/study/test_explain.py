"""``manyeyes explain``: a page, one JSON object, and errors that name the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_runs import Trained, invoke, the_object
from manyeyes.study.explanation.explain import CAUTION

SHORT = ("--max-new-tokens", "3")


@pytest.fixture
def picture(world: Path) -> Path:
    return world / "images" / "train" / "000000.png"


def test_the_page_and_the_object(trained: Trained, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "page.html"
    words = ("explain", trained.model, picture, "What is there?", "--out", out, *SHORT)
    report = the_object(invoke(*words, "--json"))
    assert report["out"] == str(out) and "What is there?" in out.read_text()
    assert report["caution"] is None and report["maps"] == []
    assert {"clip", "dinov2", "clip + dinov2"} == {row["part"] for row in report["masking"]}
    for row in report["masking"]:
        assert row["change"] == pytest.approx(row["log_p"] - report["log_p"])
    assert [*report["level_weights"]] == ["clip", "dinov2"]


def test_the_table_for_people(
    trained: Trained, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("explain", trained.model, picture, "What?", *SHORT)
    assert result.exit_code == 0
    assert "dinov2" in result.stdout and "page: explanation.html" in result.stdout
    assert CAUTION not in result.stderr  # no map is shown
    assert (tmp_path / "explanation.html").is_file()


@pytest.mark.parametrize(
    ("image", "more", "code", "message"),
    [
        ("none.png", ("What?",), 1, "no such file"),
        (None, (" ",), 2, "the question is empty"),
        (None, ("What?", "--tags", "red"), 2, "this model reads no tags"),
        (None, (), 2, "Missing argument 'QUESTION'"),
    ],
)
def test_what_cannot_be_explained(
    trained: Trained,
    picture: Path,
    tmp_path: Path,
    image: str | None,
    more: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    out = tmp_path / "page.html"
    result = invoke("explain", trained.model, image or picture, *more, "--out", out)
    assert result.exit_code == code and message in result.stderr
    assert not out.exists()
