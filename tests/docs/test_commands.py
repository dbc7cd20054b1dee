"""The commands of ``docs/commands.md`` run as they are printed, on tiny random world parts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from safetensors.torch import save_file

import tiny
import tiny_detector
from cli_runs import invoke
from manyeyes.checkpoints import hub
from manyeyes.cli import COMMANDS, DATA_COMMANDS, WORLD_COMMANDS
from manyeyes.recipes import load_recipe
from manyeyes.training.build import new_model
from manyeyes.world.pretrain.arms import ARMS
from manyeyes.world.scene import SHAPES

pytestmark = pytest.mark.long

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
BLOCK = re.compile(r"(?:<!-- (slow|server) -->\n)?```bash\n(.*?)```", flags=re.DOTALL)

PYTHON = re.compile(r"```python\n(.*?)```", flags=re.DOTALL)


def commands(kind: str = "") -> list[list[str]]:
    """Return the page's command lines, of blocks marked as of a kind or of the others.

    Those of a server do not end by themselves; tests/serving runs them.
    """
    chosen = [text for mark, text in BLOCK.findall(PAGE.read_text()) if mark == kind]
    return [shlex.split(line)[1:] for text in chosen for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; ``world:`` parts are tiny random ones."""
    parts = tiny.save_parts(tmp_path / "parts")
    (parts / "llama").rename(parts / "language")
    tiny_detector.save_detector(parts / "detector", labels=SHAPES)
    tiny.save_tagger(parts / "tagger")
    monkeypatch.setattr(hub, "WORLD_PARTS", parts)
    for arm in ("clip", "comm"):
        save_start(parts / "starts" / arm, arm)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def save_start(folder: Path, arm: str) -> None:
    """Write random weights of an arm's fusion and bridge before the present world parts."""
    recipe = load_recipe(ARMS[arm].recipe)
    model, _ = new_model(recipe, recipe.stages[0], [])
    state = {n: t for n, t in model.state_dict().items() if n.startswith(("fusion.", "bridge."))}
    folder.mkdir(parents=True)
    save_file(state, folder / "model.safetensors")
    model.config.save_pretrained(folder)


def run_all(lines: list[list[str]]) -> None:
    for words in lines:
        result = invoke(*words)
        assert result.exit_code == 0, f"{words}: {result.stderr} {result.exception!r}"


def test_every_command_of_the_page_runs_and_its_python_afterwards(folder: Path) -> None:
    run_all(commands())
    for block in PYTHON.findall(PAGE.read_text()):
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), {})
    assert (folder / "runs" / "comm" / "model" / "config.json").is_file()
    assert (folder / "comm-full" / "model.safetensors").is_file()


@pytest.mark.slow
def test_every_slow_command_of_the_page_runs(folder: Path) -> None:
    run_all(commands("slow"))
    assert (folder / "small" / "report.html").is_file()


def test_every_command_is_on_the_page() -> None:
    shown = {tuple(words) for kind in ("", "slow", "server") for words in commands(kind)}
    for name in COMMANDS:
        assert any(words[0] == name for words in shown), name
    for group, members in (("world", WORLD_COMMANDS), ("data", DATA_COMMANDS)):
        for name in members:
            assert any(words[:2] == (group, name) for words in shown), name
