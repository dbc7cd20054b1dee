"""The hook of mkdocs: pages that stand outside ``docs/`` join the site, and links go with them.

README.md is the site's first page. Links are written for people who read the repository; here they
lead to the page of the site. A link to a file that is no page, such as a test, becomes its text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples.md",
    "studies/README.md": "studies.md",
    "src/manyeyes/world/parts/README.md": "world-parts.md",
    "src/manyeyes/world/parts/language/README.md": "world-language.md",
}
"""File of the repository -> page of the site."""
SHOWN_CODE = "examples"
"""The folder whose scripts follow its page."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_HTTP = ("http://", "https://", "mailto:")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside."""
    for path, page in OUTSIDE.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        if path.startswith(f"{SHOWN_CODE}/"):
            text += "".join(map(_script, sorted((ROOT / SHOWN_CODE).glob("*.py"))))
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    here = {name: path for path, name in OUTSIDE.items()}.get(page.file.src_uri)
    source = here or f"docs/{page.file.src_uri}"

    def linked(found: re.Match[str]) -> str:
        image, text, target, anchor = found.groups()
        if target.startswith(_HTTP):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path.startswith(f"{SHOWN_CODE}/") and path.endswith(".py"):
            return f"[{text}](#{Path(path).name.replace('.', '')})"
        inside = OUTSIDE.get(path) or path.removeprefix("docs/")
        if path not in OUTSIDE and not path.startswith("docs/"):
            return text
        there = posixpath.relpath(inside, posixpath.dirname(page.file.src_uri) or ".")
        return f"{image}[{text}]({there}{anchor or ''})"

    return _LINK.sub(linked, markdown)


def _script(file: Path) -> str:
    return f"\n## {file.name}\n\n```python\n{file.read_text(encoding='utf-8')}```\n"
