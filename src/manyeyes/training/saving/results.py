"""``results.json`` of a run: what was trained on what, and with which hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manyeyes.data.containers.shards import expand_shards
from manyeyes.data.files import FileReport
from manyeyes.files import file_sha256


def stage_results(
    name: str, reports: Sequence[FileReport], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the entry of one finished stage."""
    return {
        "stage": name,
        **figures,
        "data": [
            {
                "path": report.path,
                "format": report.format,
                "samples": report.samples,
                "skipped": report.broken,
                "skipped_rows": [str(error) for error in report.errors],
                "excluded": report.excluded,
                "excluded_rows": list(report.leaks),
                "sha256": data_hash(report.path),
            }
            for report in reports
        ],
    }


def data_hash(name: str) -> str:
    """Return the SHA-256 of a data file; of shards, that of their hashes in order."""
    hashes = [file_sha256(Path(shard)) for shard in expand_shards(name)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
