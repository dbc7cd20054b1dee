"""The Python of the documentation runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from manyeyes.encoders import ENCODERS
from manyeyes.fusion import FUSIONS
from manyeyes.recipes import load_recipe, recipe_names

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(page for page in DOCS.glob("*.md") if "```python" in page.read_text())


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_blocks_run_in_order(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for table in (ENCODERS, FUSIONS):
        for name in ("vit", "gated"):
            monkeypatch.delitem(table, name, raising=False)  # type: ignore[arg-type]
    known = {**ENCODERS}, {**FUSIONS}
    names: dict[str, Any] = {"__name__": f"docs.{page.stem}"}
    try:
        for block in blocks(page):
            exec(compile(block, str(page), "exec", dont_inherit=True), names)
    finally:
        for table, before in zip((ENCODERS, FUSIONS), known, strict=True):
            table.clear()
            table.update(before)  # type: ignore[arg-type]
    assert len(blocks(page)) > 0


def test_both_how_to_pages_are_found() -> None:
    assert {"add-an-encoder", "add-a-fusion"} <= {page.stem for page in PAGES}


def test_the_example_recipes_are_valid(tmp_path: Path) -> None:
    text = (DOCS / "recipes.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    recipes = []
    for number, block in enumerate(blocks):
        (tmp_path / f"{number}.yaml").write_text(block)
        recipes.append(load_recipe(tmp_path / f"{number}.yaml"))
    comm, combined = recipes
    assert comm.name == "my-comm"
    assert comm.stage("multitask").train["fusion.*scales*"] == 1e-2
    assert combined.model["fusion"]["name"] == "comm"
    assert combined.model["bridge"]["adapters"]["count"] == 2
    assert [stage.train["language"] for stage in combined.stages] == [False, False]


def test_every_packaged_recipe_is_listed() -> None:
    text = (DOCS / "recipes.md").read_text()
    missing = [name for name in recipe_names() if f"`{name}`" not in text]
    assert missing == []
