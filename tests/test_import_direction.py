"""Imports follow the straight line and never run back; siblings never import siblings."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "manyeyes"
LINE = (
    ("errors",),
    ("files", "lines", "options", "precision", "trust"),
    ("records", "model_files"),
    (
        *(
            "boxes",
            "prompts",
            "images",
            "hub",
            "load_report",
            "checkpoint",
            "weight_names",
            "pth",
            "tags",
            "tying",
            "weight_checks",
        ),
        *("tasks", "decoding"),
    ),
    ("detections", "perception", "refinement"),
    ("chat_template", "reader"),
    ("layers",),
    ("encoders",),
    ("fusion",),
    ("language",),
    ("bridge",),
    ("losses",),
    ("configuration", "model_inputs"),
    ("originals", "parts_model"),
    ("modeling",),
    ("chat_parts", "conversation", "pixels", "targets", "tokenization"),
    ("object_texts", "text_rows", "tagging"),
    ("chat_inputs", "processor_fields"),
    ("processing",),
    ("data",),
    ("probes",),
    ("recipes",),
    ("convert",),
    ("training",),
    ("evaluation",),
    ("world",),
    ("study",),
    ("serving",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LINE) for name in names}
SIBLINGS = {
    "encoders": {"contract", "tagging"},
    "fusion": {"contract", "queries", "image_text"},
    "bridge": {"contract"},
    "convert": {"pth"},
    "language": {"contract"},
    "losses": {"contract"},
    "data/writers": {"contract"},
    "data/readers": {"contract", "coco", "conversation", "prompts", "rows"},
    "evaluation/scorers": {"coco_boxes", "ngrams", "ptb"},
    "evaluation/benchmarks": {
        "captions",
        "choices",
        "contract",
        "detection_grades",
        "detections",
        "files",
        "gqa_files",
        "grounding",
        "gvt",
        "karpathy",
        "measures",
        "results",
        "visdial_files",
        "vqa_pairs",
    },
}
"""Folders whose files stand side by side, with the modules that all of them may share."""


def imports(file: Path) -> set[str]:
    """Own-package modules a file imports anywhere, as dotted paths below ``manyeyes``."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "manyeyes":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("manyeyes."):
                found.add(node.module.removeprefix("manyeyes."))
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("manyeyes.")
                for alias in node.names
                if alias.name.startswith("manyeyes.")
            }
    return found


def files() -> list[Path]:
    return [f for f in sorted(SOURCE.rglob("*.py")) if f.parent != SOURCE or f.stem[0] != "_"]


def test_every_module_has_a_place_on_the_line() -> None:
    tops = {file.relative_to(SOURCE).parts[0].removesuffix(".py") for file in files()}
    assert tops - set(RANK) == set()


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_never_run_back(file: Path) -> None:
    top = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    behind = {
        module
        for module in imports(file)
        if (name := module.split(".")[0]) in RANK and name != top and RANK[name] > RANK[top]
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


def test_the_check_itself_sees_a_violation(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("from manyeyes.cli import main\nimport manyeyes.world.make\n")
    assert imports(file) == {"cli", "world.make"}
