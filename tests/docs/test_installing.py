"""The Dockerfile copies files that are there and sent, and installs extras that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_the_image_copies_what_is_there_and_sent() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [path for line in lines if line.startswith("COPY ") for path in line.split()[1:-1]]
    sent = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    assert {"pyproject.toml", "src"} <= set(copied)
    assert set(copied) == sent
    assert all((ROOT / path).exists() for path in copied)


def test_the_image_and_the_page_name_extras_that_exist() -> None:
    installed = re.findall(r"\.\[([\w,-]+)\]", (ROOT / "Dockerfile").read_text())
    page = (ROOT / "docs" / "installing.md").read_text()
    installed += re.findall(r"\.\[([\w,-]+)\]", page)
    listed = re.findall(r"^\| (`[^|]+`) \|", page, flags=re.MULTILINE)
    names = {name for group in installed for name in group.split(",")}
    names |= {name for group in listed for name in re.findall(r"`([\w-]+)`", group)}
    assert len(installed) == 2 and len(listed) == 7
    assert names <= set(EXTRAS)
