"""Parts of other packages: found by name, imported where wanted, refused where they are none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fake_package
from manyeyes.encoders import ENCODERS, parse_encoder
from manyeyes.errors import RecipeError, UsageError
from manyeyes.evaluation.benchmarks import BENCHMARKS, get_benchmark
from manyeyes.fusion import FUSIONS, parse_fusion

MODULE = """
from manyeyes.encoders.clip import ClipEncoder
from manyeyes.evaluation.benchmarks.vsr import BENCHMARK
from manyeyes.fusion.single import SingleFusion
class MyEye(ClipEncoder): ...
class MyFusion(SingleFusion): ...
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with good and bad parts."""
    (tmp_path / "plugged.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import nothing_of_that_name")
    points = {
        "manyeyes.encoders": {
            "my_eye": "plugged:MyEye",
            "clip": "plugged:MyEye",
            "absent": "broken:Eye",
            "no_encoder": "plugged:MyFusion",
            "no_class": "plugged:BENCHMARK",
        },
        "manyeyes.fusions": {"my_fusion": "plugged:MyFusion"},
        "manyeyes.benchmarks": {"my-benchmark": "plugged:BENCHMARK", "wrong": "plugged:MyEye"},
    }
    fake_package.install(tmp_path, "plugged", points)
    monkeypatch.syspath_prepend(tmp_path)
    known = [(table, dict(table)) for table in (ENCODERS, FUSIONS, BENCHMARKS)]
    yield tmp_path
    for table, before in known:
        table.clear()
        table.update(before)  # type: ignore[attr-defined]


def test_parts_are_found_by_their_names() -> None:
    parse_encoder({"name": "e", "family": "my_eye"})
    assert ENCODERS["my_eye"].__name__ == "MyEye"
    cls, _ = parse_fusion({"name": "my_fusion"})
    assert cls.__name__ == "MyFusion" and FUSIONS["my_fusion"] is cls
    assert get_benchmark("my-benchmark") is BENCHMARKS["my-benchmark"]


def test_a_part_of_ours_keeps_its_name() -> None:
    parse_encoder({"name": "e", "family": "clip"})
    assert ENCODERS["clip"].__module__ == "manyeyes.encoders.clip"


def test_what_is_not_wanted_is_not_imported() -> None:
    parse_encoder({"name": "e", "family": "dinov2"})
    assert "my_eye" not in ENCODERS


def test_typing_mistakes_name_plugins_too() -> None:
    with pytest.raises(RecipeError, match="did you mean 'my_eye'"):
        parse_encoder({"name": "e", "family": "my_eyes"})
    with pytest.raises(RecipeError, match="did you mean 'my_fusion'"):
        parse_fusion({"name": "my_fusoin"})
    with pytest.raises(UsageError, match="did you mean 'my-benchmark'"):
        get_benchmark("my-benchmrk")


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("absent", r"'absent' \(broken:Eye\) cannot be imported: ModuleNotFoundError: .*nothing"),
        ("no_encoder", r"'no_encoder' \(plugged:MyFusion\) is something else"),
        ("no_class", r"'no_class' \(plugged:BENCHMARK\) is something else"),
    ],
)
def test_what_is_no_encoder_is_refused(family: str, message: str) -> None:
    with pytest.raises(RecipeError, match=f"manyeyes.encoders: the plug-in {message}"):
        parse_encoder({"name": "e", "family": family})


def test_what_is_no_benchmark_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"manyeyes\.benchmarks: the plug-in 'wrong'"):
        get_benchmark("wrong")


def test_a_name_that_two_packages_give_is_refused(installed: Path) -> None:
    other = {"manyeyes.encoders": {"my_eye": "elsewhere:Eye"}}
    fake_package.install(installed, "other", other)
    with pytest.raises(RecipeError, match="several times: elsewhere:Eye, plugged:MyEye"):
        parse_encoder({"name": "e", "family": "my_eye"})
