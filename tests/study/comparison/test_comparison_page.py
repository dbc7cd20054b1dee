"""What a study's records become: verdicts, tables, and a page that loads nothing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cli_runs import invoke
from manyeyes.cli.study.tables import study_tables
from manyeyes.errors import DataError, ImageError, UsageError
from manyeyes.evaluation.contract import CONSTANT
from manyeyes.study.claims.judgement import claims_page, judge_claims
from manyeyes.study.claims.table import Claim
from manyeyes.study.comparison.headline import headline
from manyeyes.study.comparison.outputs import write_outputs
from manyeyes.study.comparison.page import render_page
from manyeyes.study.comparison.summary import Summary, summarize
from manyeyes.study.comparison.verdicts import BETTER, OPEN, WORSE, alone, every_pair, needed
from manyeyes.study.comparison.written import markdown
from manyeyes.study.trials.trial import load_trial, trial_file, with_earlier_answers
from study_trials import TITLES, change_record, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, images=60)
    return folder, write_outputs(folder)


def test_the_better_arm_is_found_and_equal_ones_are_not_separable(
    study: tuple[Path, Summary],
) -> None:
    found = {
        (v.question.challenger, v.question.reference, v.question.benchmark): v
        for v in study[1].verdicts
    }
    assert len(found) == 6
    for benchmark in TITLES:
        assert found["comm", "clip", benchmark].verdict == BETTER
        assert found["comm", "dino", benchmark].verdict == BETTER
        same = found["dino", "clip", benchmark]
        assert same.verdict == OPEN
        assert same.detectable is not None
        assert same.detectable > abs(same.difference)
        assert same.family == 6


def test_arms_below_the_constant_answer_are_said_first(tmp_path: Path) -> None:
    write_study(tmp_path, images=40, good={"clip": 0.1, "comm": 0.2})  # the constant: 30.0
    summary = write_outputs(tmp_path)
    best = {name: max(arm.means[name] for arm in summary.arms) for name in TITLES}
    assert max(best.values()) < 30.0
    first = (
        f"All arms score below the best constant answer ({CONSTANT}) on Questions (VQA accuracy) "
        f"({best['vqa']:.1f} at best, against 30.0) and Boxes (REC) ({best['rec']:.1f} at best, "
        "against 30.0)."
    )
    assert headline(summary).startswith(f"{first} ")
    assert (tmp_path / "table.md").read_text().startswith(f"# Verdicts\n\n{first} ")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["headline"] == headline(summary)
    assert first in (tmp_path / "report.html").read_text()
    shown = invoke("report", tmp_path).stdout
    assert first in shown
    assert first in claims_page([], summary)


def test_one_arm_above_the_constant_answer_is_enough(study: tuple[Path, Summary]) -> None:
    assert "constant" not in headline(study[1])


def test_no_score_that_varies_leaves_no_interval_and_nothing_required(tmp_path: Path) -> None:
    write_study(tmp_path, images=3, good={"clip": 0.0, "comm": 1.0})
    for verdict in summarize(tmp_path).verdicts:
        assert (verdict.difference, verdict.ci95, verdict.p_alone) == (100.0, None, 0.25)
        assert verdict.verdict == OPEN
        assert (verdict.detectable, verdict.seeds_required, verdict.items_required) == (None,) * 3


def test_an_open_verdict_says_what_would_close_it(tmp_path: Path) -> None:
    verdicts = []
    for seed in range(4):
        write_study(tmp_path, images=30, good={"a": 0.5, "b": 0.6}, seed=seed)
        verdicts += [v for v in summarize(tmp_path).verdicts if v.verdict == OPEN]
    said = " ".join(needed(v) for v in verdicts)
    assert "seeds" in said
    assert "questions" in said


def test_an_interval_that_says_more_than_its_verdict_is_explained(
    study: tuple[Path, Summary],
) -> None:
    folder, summary = study
    assert (
        alone([replace(v, ci95=(-0.1, 3.0)) for v in summary.verdicts if v.verdict == OPEN]) == ""
    )
    wide = tuple(replace(v, verdict=OPEN, ci95=(0.5, 3.0)) for v in summary.verdicts)
    told = replace(summary, verdicts=wide)
    said = (
        "6 intervals leave 0 out where the verdict is “not separable”: an interval is of its "
        "comparison alone, the verdict holds for all 6 together."
    )
    assert said in markdown(told) and said in render_page(folder, told)
    assert said in (study_tables(told)[0].caption or "")
    page = " ".join(render_page(folder, summary).split())
    assert f"“Best constant answer”: {CONSTANT}." in page


def test_one_comparison_is_one(study: tuple[Path, Summary]) -> None:
    open_ = tuple(replace(v, verdict=OPEN) for v in study[1].verdicts[:1])
    said = headline(replace(study[1], verdicts=open_))
    assert "The one comparison is not separable at this budget." in said


def test_a_reference_leaves_fewer_comparisons(tmp_path: Path) -> None:
    write_study(tmp_path, images=6, reference="clip")
    summary = summarize(tmp_path)
    assert {v.question.reference for v in summary.verdicts} == {"clip"}
    assert len(summary.verdicts) == 4
    with pytest.raises(UsageError, match="did you mean 'clip'"):
        every_pair(["clip", "comm"], ["vqa"], "clp")


def test_all_three_files_are_written_and_say_the_same(study: tuple[Path, Summary]) -> None:
    folder, summary = study
    results = json.loads((folder / "results.json").read_text())
    assert results["family"]["comparisons"] == len(results["verdicts"]) == 6
    assert results["arms"]["comm"]["cost"]["visual_tokens"] == 16
    table = (folder / "table.md").read_text()
    page = (folder / "report.html").read_text()
    for verdict in summary.verdicts:
        text = f"{verdict.difference:+.1f}".replace("-", "−")
        assert text in table
        assert text in page
    assert "| best constant answer | 30.0 | 30.0 |" in table


def test_the_page_loads_nothing_and_escapes(study: tuple[Path, Summary]) -> None:
    page = (study[0] / "report.html").read_text()
    beside = re.sub(r"data:image/png;base64,[^\"]+", "", page)
    assert not re.search(r"https?:|//|@import|url\(|<script|<b>blue", beside)
    assert "&lt;b&gt;blue&lt;/b&gt;" in page
    assert (
        page.index("Verdicts") < page.index("Score over cost") < page.index("By type of question")
    )
    assert page.count("<circle") == 6
    assert page.count('class="box truth"') == 8
    assert "Level weights, comm: clip" in page


def test_the_page_is_made_again_without_the_data(
    study: tuple[Path, Summary], tmp_path: Path
) -> None:
    shutil.copytree(study[0] / "records", tmp_path / "records")
    write_outputs(tmp_path)
    for name in ("report.html", "results.json", "table.md"):
        assert (tmp_path / name).read_bytes() == (study[0] / name).read_bytes()
    shutil.rmtree(tmp_path / "records" / "pictures")
    with pytest.raises(ImageError, match="no such picture"):
        write_outputs(tmp_path)


def test_other_questions_seeds_and_broken_records_are_refused(tmp_path: Path) -> None:
    write_study(tmp_path, images=4)
    path = trial_file(tmp_path, "comm", 1)
    before = path.read_text()
    change_record(path, exam={"vqa": "other", "rec": "questions"})
    with pytest.raises(DataError, match=r"'clip' and 'comm' \(seed 1\).*questions of 'vqa'"):
        summarize(tmp_path)
    path.write_text(before.replace('"seed": 1', '"seed": 7'))
    with pytest.raises(DataError, match=r"'comm' has seeds \[0, 2, 7\]"):
        summarize(tmp_path)
    change_record(path, steps="many")
    with pytest.raises(DataError, match=r"seed-1\.json: steps"):
        summarize(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="arm 'comm', seed 1 is not finished"):
        summarize(tmp_path)
    with pytest.raises(DataError, match="is this a study"):
        summarize(tmp_path / "elsewhere")


def test_trials_of_different_machines_are_told(tmp_path: Path) -> None:
    write_study(tmp_path, images=4)
    assert not [note for note in summarize(tmp_path).notes if "trials were" in note]
    other = {"device": "NVIDIA H100 80GB HBM3", "commit": "0123456789abcdef", "precision": "bf16"}
    measured = {"train_seconds": 1.0, "encode_ms": 1.0, "peak_gib": 1.0, "environment": other}
    change_record(trial_file(tmp_path, "comm", 1), measured=measured)
    assert [note for note in summarize(tmp_path).notes if "trials were" in note] == [
        "trials were run with different commits: 0123456789ab, unknown",
        "trials were trained in different precision: bf16, unknown",
        "trials were trained on different devices: NVIDIA H100 80GB HBM3, cpu",
    ]


def test_a_rule_other_than_the_official_one_is_told(tmp_path: Path) -> None:
    write_study(tmp_path)
    assert not [note for note in summarize(tmp_path).notes if "scored by" in note]
    for path in (tmp_path / "records").glob("*/seed-*.json"):
        record = json.loads(path.read_text())
        record["measures"]["vqa"]["variant"] = "official, exact match"
        path.write_text(json.dumps(record))
    notes = [note for note in summarize(tmp_path).notes if "scored by" in note]
    assert notes == ["vqa was scored by the rule 'official, exact match'"]


def test_claims_are_reproduced_reversed_or_open(study: tuple[Path, Summary]) -> None:
    def claim(name: str, challenger: str, reference: str, **more: object) -> Claim:
        return Claim(name, f"says {name}", "ours", challenger, reference, "vqa", **more)  # type: ignore[arg-type]

    claims = [
        claim("yes", "comm", "clip", control="dino"),
        claim("no", "dino", "comm"),
        claim("open", "dino", "clip", group=("question_type", "count")),
    ]
    judged = judge_claims(claims, *study)
    assert [one.outcome for one in judged] == ["reproduced", "reversed", "not separable"]
    assert judged[0].control is not None
    assert judged[0].control.verdict == BETTER
    assert judged[1].verdict.verdict == WORSE
    assert judged[2].verdict.n == 20
    page = claims_page(judged, study[1])
    assert "| says no | ours | reversed |" in page
    assert f" | {judged[2].verdict.detectable:.1f} |  |" in page
    assert "| comm | 8" in page and "| `comm/world` |" in page
    assert page.rstrip().endswith("| best constant answer | 30.0 | 30.0 | |")
    with pytest.raises(DataError, match="no questions of vqa color2"):
        judge_claims([claim("x", "comm", "clip", group=("question_type", "color2"))], *study)


def test_an_exam_of_other_benchmarks_keeps_what_the_same_weights_said(tmp_path: Path) -> None:
    write_study(tmp_path, images=4)
    before = load_trial(trial_file(tmp_path, "comm", 0))
    assert before is not None
    vqa = {
        key: {"vqa": getattr(before, key)["vqa"]}
        for key in ("exam", "measures", "majority", "answers")
    }
    now = replace(before, **vqa)
    assert with_earlier_answers(now, before) == before
    assert with_earlier_answers(now, None) == now
    other = replace(now, weights="others")
    assert with_earlier_answers(other, before) == other
