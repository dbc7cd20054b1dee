"""What an installer leaves of a package, so that its entry points are found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, name: str, points: Mapping[str, Mapping[str, str]]) -> None:
    """Write the metadata of package ``name`` into ``folder``, which is on the path of imports.

    ``points``: entry points by group and name.
    """
    info = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in members.items())
        for group, members in points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
