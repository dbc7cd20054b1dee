"""``manyeyes data get``: what is told, what is checked, and what is fetched."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

import benchmark_files as files
from cli_runs import invoke, the_object
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.benchmarks.published import PUBLISHED, Published, look_at


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_source_is_one_of_a_benchmark(name: str) -> None:
    source = PUBLISHED[name]
    assert name in BENCHMARKS
    assert (source.hub is None) == bool(source.urls)
    assert source.only and all(url.startswith("http") for url in source.urls)


def test_what_is_missing_is_told_with_its_source(tmp_path: Path) -> None:
    result = invoke("data", "get", "mmvp", "--data", tmp_path)
    assert result.exit_code == 0, result.stderr
    said = result.stdout
    assert "from     huggingface.co/datasets/MMVP/MMVP" in said
    assert "--include 'Questions.csv' --include 'MMVP Images/*'" in said
    assert "holds no MMVP questions for split 'train'" in said
    assert "next" not in said


def test_files_that_are_there_are_counted(tmp_path: Path) -> None:
    files.mmvp(tmp_path)
    found = the_object(invoke("data", "get", "mmvp", "--data", tmp_path, "--json"))
    path = tmp_path / "Questions.csv"
    assert found["files"] == {str(path): path.stat().st_size}
    assert found["questions"] == 4
    assert found["wrong"] == ["4 questions; the release has 300"]
    (tmp_path / "MMVP Images" / "2.jpg").unlink()
    found = the_object(invoke("data", "get", "mmvp", "--data", tmp_path, "--json"))
    assert "no such image file: " in found["wrong"][0]


def test_what_is_whole_ends_with_the_next_command(tmp_path: Path) -> None:
    files.tallyqa(tmp_path)
    result = invoke("data", "get", "tallyqa", "--data", tmp_path)
    assert "from     https://github.com/manoja328/tallyqa" in result.stdout
    assert "there    2 questions and their images" in result.stdout
    assert f"--benchmark tallyqa --data {tmp_path} --split test" in result.stdout


def test_a_published_hash_is_compared(tmp_path: Path) -> None:
    files.tallyqa(tmp_path)
    right = hashlib.md5((tmp_path / "test.json").read_bytes()).hexdigest()
    for md5, wrong in ((right, 0), ("0" * 32, 1)):
        source = Published("test", md5={"test.json": md5})
        found = look_at(BENCHMARKS["tallyqa"], tmp_path, "test", source)
        assert len(found.wrong) == wrong
        assert all("MD5 is not the published one" in text for text in found.wrong)


def test_fetch_asks_for_the_needed_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def snapshot_download(repo_id: str, **how: Any) -> None:
        asked.append((repo_id, how))
        files.cv_bench(Path(how["local_dir"]))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    result = invoke("data", "get", "cv-bench", "--data", tmp_path / "cv", "--fetch")
    assert result.exit_code == 0, result.stderr
    ((repo, how),) = asked
    assert repo == "nyu-visionx/CV-Bench"
    assert (how["repo_type"], how["allow_patterns"]) == ("dataset", ["test*.parquet"])
    assert "5 questions; the release has 2638" in result.stdout


def test_what_cannot_be_fetched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoke("data", "get", "tallyqa", "--data", tmp_path, "--fetch")
    assert result.exit_code == 2
    assert "'tallyqa' has no data set on huggingface.co to fetch" in result.stderr

    def gone(*args: Any, **how: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", gone)
    result = invoke("data", "get", "mmstar", "--data", tmp_path, "--fetch")
    assert result.exit_code != 0
    assert "datasets/Lin-Chen/MMStar cannot be fetched: no network" in result.stderr


def test_a_benchmark_without_a_known_source(tmp_path: Path) -> None:
    result = invoke("data", "get", "visdial", "--data", tmp_path)
    assert "no public source is known here" in result.stdout
    assert "expects  one of visdial_1.0_test.json" in result.stdout
