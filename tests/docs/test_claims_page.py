"""``docs/claims.md`` says what the records in ``studies/claims`` say."""

from __future__ import annotations

from pathlib import Path

from manyeyes.study.claims.judgement import claims_page, judge_claims
from manyeyes.study.claims.table import CLAIMS
from manyeyes.study.comparison.summary import summarize

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "studies" / "claims"


def test_the_page_is_what_the_records_say() -> None:
    summary = summarize(STUDY)
    judged = judge_claims(CLAIMS, STUDY, summary)
    assert (ROOT / "docs" / "claims.md").read_text() == claims_page(judged, summary)
    assert summary.plan.data == "world"
