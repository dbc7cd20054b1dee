"""The example files of docs/data-formats.md: one section per format, each recognised and read."""

from __future__ import annotations

import json
import pickle
import re
import shlex
from pathlib import Path

import pytest

from cli_runs import invoke
from manyeyes.data.files import detect_format, read_samples
from manyeyes.data.readers import READERS
from manyeyes.evaluation.answers.score import Scoring, score_file
from manyeyes.world.emit import FORMATS
from scene_truth import ANSWERS

PAGE = Path(__file__).parents[2] / "docs" / "data-formats.md"
EXAMPLE = re.compile(
    r"^`([^`\n]+)`[^`\n]*:\n\n```(?:json|text|xml)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def _sections() -> dict[str, list[tuple[str, str]]]:
    """Format name -> its example files (name, content)."""
    parts = re.split(r"^## (\S+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {
        name: EXAMPLE.findall(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    return {name: examples for name, examples in found.items() if examples}


def test_every_format_has_a_section_and_a_line_in_the_table() -> None:
    assert set(_sections()) == set(READERS)
    for name in READERS:
        assert f"| [`{name}`](#{name}) |" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", READERS)
def test_the_examples_are_what_they_are_said_to_be(tmp_path: Path, name: str) -> None:
    sections = _sections()
    if name == "refcoco_pickle":
        sections[name] += sections["coco_instances"]
    for file, content in sections[name]:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        if file.endswith(".p"):
            (tmp_path / file).write_bytes(pickle.dumps(json.loads(content), protocol=2))
        else:
            (tmp_path / file).write_text(content, encoding="utf-8")
    others = re.compile("annotations|instances|Sentences/|Annotations/")
    main = [file for file, _ in sections[name] if not others.search(file)]
    for file in main or [sections[name][0][0]]:
        assert detect_format(tmp_path / file) == name
        samples, report = read_samples(tmp_path / file)
        assert report.broken == 0
        assert samples[-1].turns[-1].role == "assistant"


def test_the_answer_that_people_agree_on_scores_100_on_the_vqa_example(tmp_path: Path) -> None:
    files = [tmp_path / file for file, _ in _sections()["vqa"]]
    for path, (_, content) in zip(files, _sections()["vqa"], strict=True):
        path.write_text(content, encoding="utf-8")
    (annotation,) = json.loads(files[1].read_text())["annotations"]
    agreed = {"question_id": 42000, "answer": annotation["multiple_choice_answer"]}
    (tmp_path / "answers.json").write_text(json.dumps([agreed]))
    result = score_file(Scoring("vqa", files), tmp_path / "answers.json").result
    assert (result.headline.value, result.variant, result.notes) == (100.0, "official", ())


def test_every_format_of_the_world_is_in_its_table() -> None:
    (section,) = re.findall(r"^## The world's files$(.*?)^## ", PAGE.read_text(), re.M | re.S)
    rows = [line for line in section.splitlines() if line.startswith("| `")][1:]
    listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert sorted(listed) == sorted(FORMATS)
    scored = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[3])}
    assert scored == set(ANSWERS) - {"okvqa", "vqav2"}


def test_the_error_shown_is_the_one_that_is_printed(tmp_path: Path) -> None:
    (_, content) = _sections()["llava"][0]
    good, other = json.loads(content)
    other["conversations"][0]["from"] = "humn"
    path = tmp_path / "train.json"
    path.write_text(json.dumps([good, other]))
    _, report = read_samples(path, skip_bad_rows=True)
    shown = re.search(
        r"^  (train\.json, entry 2: .*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert shown is not None
    assert str(report.errors[0]) == f"{tmp_path}/{shown.group(1)}"


def test_the_conversion_shown_prints_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, content) = _sections()["llava"][0]
    (tmp_path / "train.json").write_text(json.dumps(json.loads(content)[:1]))
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    shown = re.search(r"^\$ manyeyes (convert data .*)\n((?:.+\n)+?)```", text, re.MULTILINE)
    assert shown is not None
    assert invoke(*shlex.split(shown.group(1))).stdout == shown.group(2)
