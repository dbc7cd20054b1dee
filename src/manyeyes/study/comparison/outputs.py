"""``results.json``, ``table.md`` and ``report.html`` of a study, from its records alone."""

from __future__ import annotations

import json
from pathlib import Path

from manyeyes.files import write_text
from manyeyes.study.comparison.page import write_page
from manyeyes.study.comparison.summary import Summary, summarize
from manyeyes.study.comparison.written import markdown, results_of

RESULTS_FILE, TABLE_FILE = "results.json", "table.md"


def write_outputs(folder: Path) -> Summary:
    """Judge the records in ``folder`` and write all three files; return the summary.

    Raises:
        DataError: records are missing, broken, or cannot be compared.
    """
    summary = summarize(folder)
    text = json.dumps(results_of(summary), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / RESULTS_FILE, text + "\n")
    write_text(folder / TABLE_FILE, markdown(summary))
    write_page(folder, summary)
    return summary
