"""What a reader must know first: the sentences, and when they are said."""

from __future__ import annotations

import json
from pathlib import Path

from manyeyes.study.comparison.headline import headline
from manyeyes.study.comparison.honesty import (
    blind_solvable,
    few_right,
    rehearsal,
    seen_pictures,
)
from manyeyes.study.comparison.outputs import write_outputs
from manyeyes.study.record import Measure, Seen
from manyeyes.study.trials.trial import load_plan, load_trial, save_plan, trial_file
from study_trials import write_study


def test_the_sentences() -> None:
    assert few_right({"Boxes": (9.5, 40), "Questions": (10.0, 40)}) == (
        "Too few right answers to judge by: Boxes (9.5 of 40) at best."
    )
    assert few_right({"Questions": (10.0, 40)}) == ""
    assert blind_solvable({}) == ""
    assert "Questions 40.0 and Boxes 2.0" in blind_solvable({"Questions": 40.0, "Boxes": 2.0})
    assert seen_pictures(None) == ""
    assert "None of the 12 asked pictures" in seen_pictures(Seen(12, 0, True))
    said = seen_pictures(Seen(12, 3, False))
    assert said.startswith("Contaminated: 3 of the 12 asked pictures (25 %)")
    assert "by name only" in said
    assert rehearsal(None, ["comm/world"]) == "" == rehearsal(Seen(12, 0, True), ["comm/small"])
    assert rehearsal(Seen(12, 0, True), ["clip/world", "comm/world:seed=1"]).startswith("A rehears")


def test_a_study_says_them_in_its_headline_and_files(tmp_path: Path) -> None:
    write_study(tmp_path, images=40, good={"clip": 0.02, "comm": 0.05}, seeds=1)
    plan, items = load_plan(tmp_path)
    save_plan(tmp_path, type(plan)(**{**vars(plan), "seen": Seen(40, 4, True)}), items)
    path = trial_file(tmp_path, "comm", 0)
    trial = load_trial(path)
    assert trial is not None
    blind = {"vqa": Measure("accuracy", 31.0, 40)}
    row = json.loads(path.read_text())
    path.write_text(json.dumps({**row, "blind": {"vqa": vars(blind["vqa"])}}))
    summary = write_outputs(tmp_path)
    said = headline(summary)
    assert "Too few right answers to judge by: " in said
    assert "Blind-solvable, the best score without the image (seed 0): Questions" in said
    assert said.endswith("are in the training rows too (by name and by fingerprint).")
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["blind"].values()) == [31.0]
    assert "| best without the image | 31.0 |" in (tmp_path / "table.md").read_text()
    assert "Contaminated: 4 of the 40" in (tmp_path / "report.html").read_text()
