"""``manyeyes chat``: one question, a conversation, boxes, and errors it survives."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_runs import Trained, invoke, the_object
from manyeyes.images.reading import load_image
from manyeyes.serving.chat import Conversation

SHORT = ("--max-new-tokens", "4")


@pytest.fixture
def picture(world: Path) -> Path:
    return world / "images" / "train" / "000000.png"


def say_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model answer with a box, which random weights would not."""
    monkeypatch.setattr(Conversation, "_generate", lambda *_: "it is [0.250,0.250,0.500,0.500].")


def test_one_question(trained: Trained, picture: Path) -> None:
    words = ("chat", trained.model, "--image", picture, "--prompt", "What is there?", *SHORT)
    report = the_object(invoke(*words, "--json"))
    assert report["question"] == "What is there?"
    assert report["turns"][0]["answer"] == report["answer"]
    assert invoke(*words).stdout.strip() != ""


def test_boxes_are_drawn(
    trained: Trained, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_a_box(monkeypatch)
    drawing = tmp_path / "out" / "box.png"
    words = ("chat", trained.model, "--image", picture, "--prompt", "Where?", "--draw", drawing)
    report = the_object(invoke(*words, "--json"))
    assert load_image(picture).size == (48, 48)
    assert report["boxes"] == [[[12.0, 12.0, 24.0, 24.0]]]
    assert report["drawing"] == str(drawing)
    assert load_image(drawing).getpixel((12 * 8, 18 * 8)) == (0xE6, 0x19, 0x4B)


def test_a_conversation_goes_on_after_mistakes(
    trained: Trained, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["hello", "/image nope.png", f"/image {picture}", "a <image>", "again", "", "/what"]
    typed = "\n".join([*lines, "/reset", "/quit", "never asked"])
    result = invoke("chat", trained.model, *SHORT, "--json", stdin=typed)
    assert result.exit_code == 0
    assert [turn["question"] for turn in the_object(result)["turns"]] == ["hello", "again"]
    assert "error: nope.png: no such file" in result.stderr
    assert "<image> cannot be part of a question" in result.stderr
    assert "48x48 pixels" in result.stderr


def test_an_answer_is_explained_in_a_conversation(
    trained: Trained, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["/why", f"/image {picture}", "What is there?", "/why", "And now?", "/why", "/quit"]
    result = invoke("chat", trained.model, *SHORT, stdin="\n".join(lines))
    assert result.exit_code == 0
    assert "error: nothing to explain yet: ask about an image" in result.stderr
    assert "zero" in result.stdout and "log P" in result.stdout
    assert "weak evidence" not in result.stderr  # no map is shown: nothing attends
    assert result.stderr.count("asked alone") == 1
    pages = [(tmp_path / name).read_text() for name in ("chat-why.html", "chat-why-2.html")]
    assert "What is there?" in pages[0] and "And now?" in pages[1]


def test_drawings_of_a_conversation_are_numbered(
    trained: Trained, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_a_box(monkeypatch)
    monkeypatch.chdir(tmp_path)
    invoke("chat", trained.model, "--image", picture, stdin="where\nand where\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "chat-boxes-2.png",
        "chat-boxes.png",
    ]


def test_a_bad_image_fails_a_single_question(trained: Trained, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    result = invoke("chat", trained.model, "--image", bad, "--prompt", "hi")
    assert result.exit_code == 1
    assert str(bad) in result.stderr


def test_a_missing_frozen_part_is_named(
    trained: Trained, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manyeyes.checkpoints.hub.resolve", lambda name: f"{name}-gone")
    result = invoke("chat", trained.model, "--prompt", "hi")
    assert result.exit_code == 1
    assert str(parts / "clip") in result.stderr
