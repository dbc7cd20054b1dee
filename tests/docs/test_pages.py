"""The Python of the documentation runs as it is printed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fake_package
from manyeyes.bridge import BRIDGES
from manyeyes.conversation.prompts import PROMPT_STYLES
from manyeyes.encoders import ENCODERS
from manyeyes.fusion import FUSIONS
from manyeyes.images.reading import GEOMETRIES
from manyeyes.layers.mlp import PROJECTORS
from manyeyes.recipes import PartTraining, load_recipe, model_config, recipe_names
from manyeyes.recipes.finding.key_table import known_keys

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: Path) -> list[str]:
    """The page's Python, without what asks a server or vLLM (see ``tests/serving`` for that)."""
    pattern = r"(<!-- (?:server|vllm) -->\n)?```python\n(.*?)```"
    found = re.findall(pattern, page.read_text(), flags=re.DOTALL)
    return [block for elsewhere, block in found if not elsewhere]


WITH_COMMANDS = DOCS / "commands.md"
"""Its Python reads what the page's commands have made; ``test_commands`` runs both."""

PAGES = sorted(page for page in DOCS.glob("*.md") if blocks(page) and page != WITH_COMMANDS)


def printed_files(page: Path) -> dict[str, str]:
    """The files that a page prints: a line with the path in backquotes, then the block."""
    found = re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)```", page.read_text(), re.DOTALL | re.M)
    return dict(found)


@pytest.fixture(params=PAGES, ids=lambda page: page.stem)
def page(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A page, with the package that it prints installed."""
    install_printed(printed_files(request.param), tmp_path, monkeypatch)
    known = dict(ENCODERS), dict(FUSIONS)
    yield request.param
    for table, before in zip((ENCODERS, FUSIONS), known, strict=True):
        table.clear()
        table.update(before)  # type: ignore[arg-type]


def install_printed(files: dict[str, str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a page's files, and what pip would write beside them; make them importable."""
    for name, text in files.items():
        file = place / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        if file.name == "pyproject.toml":
            project = tomllib.loads(text)["project"]
            fake_package.install(file.parent, project["name"], project["entry-points"])
        monkeypatch.syspath_prepend(file.parent)


def test_python_blocks_run_in_order(page: Path) -> None:
    files = set(printed_files(page).values())
    names: dict[str, Any] = {"__name__": f"docs.{page.stem}"}
    run = [block for block in blocks(page) if block not in files]
    for block in run:
        exec(compile(block, str(page), "exec", dont_inherit=True), names)
    assert len(run) > 0


HOW_TO = [DOCS / "add-an-encoder.md", DOCS / "add-a-fusion.md"]


@pytest.mark.parametrize("how_to", HOW_TO, ids=lambda page: page.stem)
def test_printed_files_pass_the_linter(how_to: Path, tmp_path: Path) -> None:
    text = printed_files(how_to)
    assert sorted(Path(name).suffix for name in text) == [".py", ".toml"]
    for name, content in text.items():
        (tmp_path / Path(name).name).write_text(content)
    settings = DOCS.parent / "pyproject.toml"
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--config", settings], ["format", "--check", "--config", settings]):
        done = subprocess.run([*ruff, *command, tmp_path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how_to", HOW_TO, ids=lambda page: page.stem)
def test_printed_files_pass_mypy(how_to: Path, tmp_path: Path) -> None:
    for name, content in printed_files(how_to).items():
        (tmp_path / Path(name).name).write_text(content)
    settings = ["--config-file", str(DOCS.parent / "pyproject.toml")]
    module = next(file for file in tmp_path.iterdir() if file.suffix == ".py")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *settings, str(module)],
        capture_output=True,
        text=True,
        cwd=DOCS.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_recipes_are_valid(tmp_path: Path) -> None:
    text = (DOCS / "recipes.md").read_text()
    blocks = re.findall(r"```yaml\n(extends.*?)```", text, flags=re.DOTALL)
    recipes = []
    for number, block in enumerate(blocks):
        (tmp_path / f"{number}.yaml").write_text(block)
        recipes.append(load_recipe(tmp_path / f"{number}.yaml"))
    comm, combined, tuned = recipes
    assert comm.name == "my-comm"
    assert comm.stage("multitask").train["fusion.*scales*"] == 1e-2
    assert combined.model["fusion"]["name"] == "comm"
    assert combined.model["bridge"]["adapters"]["count"] == 2
    assert [stage.train["language"] for stage in combined.stages] == [False, False]
    tuning = tuned.stage("instruct").train["language"]
    assert isinstance(tuning, PartTraining) and tuning.lora is not None and tuning.lora.rank == 16


def test_the_recipe_for_people_from_other_projects_is_valid(tmp_path: Path) -> None:
    text = (DOCS / "coming-from.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "mine.yaml").write_text(block)
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert [stage.name for stage in recipe.stages] == ["align", "instruct"]
    assert model_config(recipe.model).max_tokens == 2048
    tuning = recipe.stage("instruct").train["language"]
    assert isinstance(tuning, PartTraining) and tuning.lora is not None and tuning.lora.rank == 128


def test_what_other_projects_call_otherwise_exists_here() -> None:
    """Every word in backquotes of the right column is a key, a value or an option of ours."""
    text = (DOCS / "coming-from.md").read_text()
    cells = [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| `")]
    codes = [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]
    said = {word for code in codes for word in re.findall(r"(?<!\w)(?:--)?[a-zA-Z][\w./-]+", code)}
    keys = {key for block in known_keys().values() for key in block}
    values = {*PROJECTORS, *GEOMETRIES, *PROMPT_STYLES, *FUSIONS, *BRIDGES, *recipe_names()}
    values |= {"all-linear", "align", "auto", "group_by_length", "instruct", "nf4", "true"}
    paths = {"model.language.checkpoint", "model.encoders", "model.max_tokens", "encoders.clip"}
    words = {"--train", "--images", "FILE.yaml", "drop", "manyeyes", "torchrun"}
    assert said - {"..", "..."} - keys - values - paths - words == set()
    assert len(said & keys) > 20


def test_every_packaged_recipe_is_listed() -> None:
    text = (DOCS / "recipes.md").read_text()
    missing = [name for name in recipe_names() if f"`{name}`" not in text]
    assert missing == []
