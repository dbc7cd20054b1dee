"""The README's Python example runs as printed, over a tiny model in place of the demo's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

README = Path(__file__).parents[2] / "README.md"


def test_the_example_runs(
    build: Callable[..., Any],
    pictures: list[Image.Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    model, processor = build()
    model.save_pretrained(tmp_path / "demo" / "model")
    processor.save_pretrained(tmp_path / "demo" / "model")
    place = tmp_path / "demo" / "world" / "images" / "test"
    place.mkdir(parents=True)
    pictures[0].save(place / "000000.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(README), "exec", dont_inherit=True), {})
    assert "Describe the image." in capsys.readouterr().out
