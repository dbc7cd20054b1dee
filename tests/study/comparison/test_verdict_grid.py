"""Many arms: every row against every column, numbers where colours repeat."""

from __future__ import annotations

from pathlib import Path

from manyeyes.study.comparison.page import render_page
from manyeyes.study.comparison.summary import summarize
from manyeyes.study.comparison.verdict_grid import verdict_grids
from manyeyes.study.comparison.verdicts import BETTER, OPEN, WORSE, figure
from study_trials import TITLES, write_study

SEVEN = {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.9, "e": 0.5, "f": 0.5, "g": 0.1}


def test_a_grid_says_what_the_verdicts_say_from_both_sides(tmp_path: Path) -> None:
    write_study(tmp_path, images=40, good=SEVEN)
    summary = summarize(tmp_path)
    grids = verdict_grids(summary)
    assert list(grids) == list(TITLES)
    for benchmark, rows in grids.items():
        order = [row.arm.name for row in rows]
        assert (order[0], order[-1]) == ("d", "g")
        cells = {
            (row.arm.name, column): cell
            for row in rows
            for column, cell in zip(order, row.cells, strict=True)
        }
        assert all(cells[name, name].verdict == "" for name in order)
        found = [v for v in summary.verdicts if v.question.benchmark == benchmark]
        assert {v.verdict for v in found} == {BETTER, WORSE, OPEN}
        for verdict in found:
            pair = verdict.question.challenger, verdict.question.reference
            opposite = {BETTER: WORSE, WORSE: BETTER, OPEN: OPEN}[verdict.verdict]
            assert cells[pair].verdict == verdict.verdict
            assert cells[pair[::-1]].verdict == opposite
            for cell in (cells[pair], cells[pair[::-1]]):
                assert f"{pair[0]} − {pair[1]} {figure(verdict)}" in cell.title


def test_the_page_of_many_arms_has_grids_and_numbers(tmp_path: Path) -> None:
    write_study(tmp_path, images=10, good=SEVEN)
    page = render_page(tmp_path, summarize(tmp_path))
    assert "<title>Which visual branch? 7 arms</title>" in page
    assert page.count('<table class="grid">') == len(TITLES)
    assert "All 21 pairs with their figures" in page
    assert page.count('class="number">7</text>') == len(TITLES)
    assert 'class="tiny">7</text>' in page


def test_few_arms_and_a_reference_need_no_grid(tmp_path: Path) -> None:
    write_study(tmp_path, images=6, good={name: SEVEN[name] for name in "abcdef"})
    summary = summarize(tmp_path)
    assert verdict_grids(summary) == {}
    assert "numbered" not in render_page(tmp_path, summary).split("</style>")[1]
    write_study(tmp_path, images=6, good=SEVEN, reference="a")
    assert verdict_grids(summarize(tmp_path)) == {}
