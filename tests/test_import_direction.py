"""Imports follow the straight line and never run back; siblings stand apart; rooms are small."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "manyeyes"
Line = tuple[tuple[str, ...], ...]
LINES: dict[str, Line] = {
    "": (
        ("errors", "lines", "records", "probes", "environment"),
        ("options", "files"),
        ("images", "checkpoints"),
        ("conversation",),
        ("perception", "layers"),
        ("encoders", "language", "bridge", "losses"),
        ("fusion",),
        ("data",),
        ("model",),
        ("inference", "recipes"),
        ("serving", "convert", "training", "evaluation"),
        ("world",),
        ("study",),
        ("cli",),
    ),
    "data": (
        ("counters", "opened_images", "regular", "writers"),
        ("containers", "feature_store", "mixture", "sampler"),
        ("readers", "exclusion", "dataset"),
        ("text_boxes",),
        ("files",),
        ("annotations", "convert", "own"),
    ),
    "evaluation": (
        ("contract", "scorers", "confidence"),
        ("benchmarks",),
        ("answers", "tables"),
        ("asking",),
        ("harness",),
    ),
    "world/pretrain": (
        ("arms", "cards", "loop", "sizes", "pictures"),
        ("export", "recipe"),
        ("vision", "language"),
        ("measuring", "told"),
        ("kept_pictures",),
        ("starts",),
        ("language_parts", "start_parts", "vision_parts"),
        ("run",),
    ),
    "study": (
        ("record", "costs"),
        ("pages",),
        ("ablation", "explanation"),
        ("trials",),
        ("comparison",),
        ("claims", "demonstration", "probing"),
        ("choosing",),
    ),
}
"""Folder -> what lies in it, step by step: a step imports earlier ones, never itself or later."""

SIBLINGS = {
    "encoders": {"contract", "levels", "maps", "spec", "tagging"},
    "fusion": {"contract", "queries", "image_text"},
    "bridge": {"contract"},
    "convert": {"state_dicts"},
    "language": {"contract"},
    "losses": {"contract"},
    "data/writers": {"contract"},
    "data/readers": {"contract", "coco", "conversation", "prompts", "rows"},
    "evaluation/scorers": {"coco_boxes", "ngrams", "ptb"},
    "evaluation/benchmarks": {
        "captions",
        "choices",
        "contract",
        "count_grades",
        "detection_grades",
        "detections",
        "files",
        "gqa_files",
        "grounding",
        "gvt",
        "karpathy",
        "measures",
        "own_files",
        "place_results",
        "published",
        "results",
        "short_answers",
        "short_columns",
        "visdial_files",
        "vqa_pairs",
        "wholes",
        "written_options",
    },
}
"""Folders whose files stand side by side, with the modules that all of them may share."""

TABLES = {
    "data/readers",
    "encoders",
    "evaluation/benchmarks",
    "evaluation/scorers",
    "fusion",
    "losses",
    "recipes",
    "world/emit",
}
"""Folders of members of one file each, which may be many."""
MOST = 15
"""Modules side by side, elsewhere."""


def imports(file: Path) -> set[str]:
    """Own-package modules a file imports anywhere, as dotted paths below ``manyeyes``."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "manyeyes":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("manyeyes."):
                module = node.module.removeprefix("manyeyes.")
                found |= {
                    module,
                    *(f"{module}.{a.name}" for a in node.names if _is_module(module, a)),
                }
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("manyeyes.")
                for alias in node.names
                if alias.name.startswith("manyeyes.")
            }
    return found


def _is_module(package: str, alias: ast.alias) -> bool:
    place = SOURCE / package.replace(".", "/") / alias.name
    return place.is_dir() or place.with_suffix(".py").is_file()


def files(folder: str = "") -> list[Path]:
    found = sorted((SOURCE / folder).rglob("*.py"))
    return [f for f in found if f.parent != SOURCE / folder or f.stem[0] != "_"]


def steps(folder: str) -> dict[str, int]:
    return {name: step for step, names in enumerate(LINES[folder]) for name in names}


def within(folder: str, module: str) -> str | None:
    """The name in ``folder`` of a dotted module; None = it lies elsewhere, or is the folder."""
    prefix = f"{folder.replace('/', '.')}." if folder else ""
    return module.removeprefix(prefix).split(".")[0] if module.startswith(prefix) else None


@pytest.mark.parametrize("folder", LINES, ids=lambda folder: folder or "manyeyes")
def test_every_module_has_a_place_on_the_line(folder: str) -> None:
    names = {f.relative_to(SOURCE / folder).parts[0].removesuffix(".py") for f in files(folder)}
    assert names - set(steps(folder)) == set()


@pytest.mark.parametrize(
    ("folder", "file"),
    [(folder, file) for folder in LINES for file in files(folder)],
    ids=lambda part: part if isinstance(part, str) else str(part.relative_to(SOURCE)),
)
def test_imports_never_run_back(folder: str, file: Path) -> None:
    step = steps(folder)
    own = file.relative_to(SOURCE / folder).parts[0].removesuffix(".py")
    behind = {
        module
        for module in imports(file)
        if (name := within(folder, module)) in step and name != own and step[name] >= step[own]
    }
    assert behind == set()


@pytest.mark.parametrize("folder", sorted(SIBLINGS))
def test_siblings_never_import_siblings(folder: str) -> None:
    shared = {"__init__", *SIBLINGS[folder]}
    members = {file.stem for file in (SOURCE / folder).glob("*.py")} - shared
    assert members
    prefix = folder.replace("/", ".") + "."
    wrong = {
        (file.name, module)
        for file in (SOURCE / folder).glob("*.py")
        if file.stem in members
        for module in imports(file)
        if module.startswith(prefix) and module.removeprefix(prefix).split(".")[0] in members
    }
    assert wrong == set()


def test_few_modules_lie_loose_or_side_by_side() -> None:
    folders = {file.parent for file in SOURCE.rglob("*.py")}
    counts = {
        str(folder.relative_to(SOURCE)): len([f for f in folder.glob("*.py") if f.stem[0] != "_"])
        for folder in folders
    }
    assert counts["."] <= 5  # beside __init__ and __main__
    assert {name for name, n in counts.items() if n > MOST} - TABLES == set()


def test_no_module_bears_a_name_of_the_standard_library() -> None:
    names = {part.removesuffix(".py") for f in files() for part in f.relative_to(SOURCE).parts}
    assert names & set(sys.stdlib_module_names) - {"__main__"} == set()


def test_the_check_itself_sees_a_violation(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("from manyeyes.cli import main\nimport manyeyes.world.make\n")
    assert imports(file) == {"cli", "world.make"}
    file.write_text("from manyeyes.study.pages import figures\n")
    assert imports(file) == {"study.pages", "study.pages.figures"}
    assert within("study", "study.pages.figures") == "pages"
    assert within("study", "study") is None
