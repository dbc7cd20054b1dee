"""The report: self-contained, escaped, complete, and made from stored records alone."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from manyeyes.errors import DataError
from manyeyes.study.comparison.contrast import Contrast, contrasts, group_measures, verdict
from manyeyes.study.demonstration.report import write_report
from manyeyes.study.pages.figures import bars, curves, nice_ceiling
from manyeyes.study.pages.pictures import DISAGREEMENT, FAILURE, SAMPLE, Counts, choose
from manyeyes.study.record import Answer, Arm, CurvePoint, load_study, save_study
from study_runs import BENCHMARKS, write_run

VOID = {"meta", "image", "rect", "line", "polyline", "link", "br"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open = "", list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, images=60, good_challenger=0.75)
    write_report(folder)
    return folder


def test_contestants_below_the_constant_answer_are_said_first(run: Path) -> None:
    study, items = load_study(run)
    found = contrasts(study, items)
    assert "constant" not in verdict(study, found)
    (best,) = {max(arm.measures["vqa"].value for arm in study.contestants)}
    constant = {"vqa": replace(study.arms[0].measures["vqa"], value=best + 1.0)}
    arms = (*study.arms, Arm("majority", "constant", baseline=True, measures=constant))
    said = verdict(replace(study, arms=arms), found)
    first = "All arms score below the best constant answer on VQA accuracy "
    assert said.startswith(f"{first}({best:.1f} at best, against {best + 1.0:.1f}). ")
    assert said.endswith(verdict(study, found))


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def test_page_is_well_formed(page: Page) -> None:
    assert page.open == []
    assert {tag for tag, _ in page.tags} >= {"main", "table", "svg", "article"}


def test_page_loads_nothing(run: Path, page: Page) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    beside = re.sub(r"data:image/png;base64,[^\"]+", "", text)
    assert not re.search(r"https?:|//|@import|url\(", beside)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "img"}
    links = [a["href"] for _, a in page.tags if "href" in a]
    assert links
    assert all(link and link.startswith("data:image/png;base64,") for link in links)


def test_verdict_comes_first_and_has_intervals(run: Path, page: Page) -> None:
    study, items = load_study(run)
    sentence = verdict(study, contrasts(study, items))
    assert page.text.index(sentence) < page.text.index("Benchmark")
    assert re.search(
        r"COMM beats CLIP only on VQA accuracy \+\d+\.\d \[\d+\.\d, \d+\.\d\]", sentence
    )


def test_model_text_is_escaped(run: Path, tmp_path: Path) -> None:
    study, items = load_study(run)
    evil = "<script>alert(1)</script>\"' onload=x"
    answers = {name: Answer(evil, 0.0) for name in items[0].answers}
    hostile = [
        replace(i, answers=answers, question=evil, truth=evil, cluster=evil, groups={evil: evil})
        for i in items
    ]
    (tmp_path / "images").symlink_to(run / "images")
    arms = tuple(replace(arm, title=evil, description=evil) for arm in study.arms)
    save_study(tmp_path, replace(study, title=evil, arms=arms, notes=(evil,)), hostile)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not any("onload" in attributes for _, attributes in Page(text).tags)


def test_truth_and_answers_are_drawn_as_boxes(run: Path, page: Page) -> None:
    boxes = [a for tag, a in page.tags if tag == "rect" and str(a.get("class")).startswith("box ")]
    classes = [str(a["class"]) for a in boxes]
    assert classes.count("box truth") == 12
    assert classes.count("box arm0") == classes.count("box arm1") == 12
    study, items = load_study(run)
    rec = choose([i for i in items if i.benchmark == "rec"], study.contrast, seed=study.seed)
    target = rec[0].item.target
    assert target is not None
    assert {"x": f"{target[0]:.2f}", "y": f"{target[1]:.2f}"}.items() <= next(
        a for a in boxes if a["class"] == "box truth"
    ).items()


def test_every_benchmark_and_level_weight_is_shown(page: Page) -> None:
    for title in BENCHMARKS.values():
        assert page.text.count(title) >= 2
    assert "Level weights, COMM: dinov2" in page.text
    assert "Loss, stage “align”" in page.text
    assert "manyeyes demo --seed 0" in page.text


def test_report_is_the_same_every_time(run: Path) -> None:
    before = (run / "report.html").read_bytes()
    assert write_report(run).read_bytes() == before


def test_choice_follows_its_rule(run: Path) -> None:
    study, items = load_study(run)
    vqa = [item for item in items if item.benchmark == "vqa"]
    chosen = choose(vqa, study.contrast, seed=3, counts=Counts(4, 2, 3))
    assert [c.reason for c in chosen] == [DISAGREEMENT] * 4 + [FAILURE] * 2 + [SAMPLE] * 3
    gaps = [c.item.answers["comm"].score - c.item.answers["clip"].score for c in chosen]
    assert gaps[:4] == [1, -1, 1, -1]
    assert all(c.item.answers["clip"].score == 0 for c in chosen[4:6])
    assert len({c.item.id for c in chosen}) == len(chosen)
    again = choose(list(reversed(vqa)), study.contrast, seed=3, counts=Counts(4, 2, 3))
    assert again == chosen


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        ([(2.0, (1.0, 3.0))], "COMM beats CLIP only on VQA accuracy +2.0 [1.0, 3.0]."),
        ([(-2.0, (-3.0, -1.0))], "COMM loses to CLIP only on VQA accuracy −2.0 [−3.0, −1.0]."),
        (
            [(2.0, (-1.0, 5.0))],
            "No difference between COMM and CLIP only can be claimed here: "
            "VQA accuracy +2.0 [−1.0, 5.0].",
        ),
        (
            [(2.0, (1.0, 3.0)), (-2.0, (-3.0, -1.0)), (0.0, (0.0, 0.0))],
            "COMM beats CLIP only on VQA accuracy +2.0 [1.0, 3.0], and loses on REC −2.0 "
            "[−3.0, −1.0]. No difference can be claimed on POPE +0.0 [0.0, 0.0].",
        ),
    ],
)
def test_verdict_claims_only_what_intervals_allow(
    run: Path, cases: list[tuple[float, tuple[float, float]]], expected: str
) -> None:
    study, _ = load_study(run)
    found = [
        Contrast(name, difference, interval, 0.01, 100)
        for name, (difference, interval) in zip(BENCHMARKS, cases, strict=False)
    ]
    assert verdict(study, found) == expected


def test_no_claim_without_a_small_adjusted_p() -> None:
    assert Contrast("vqa", 2.0, (0.1, 3.9), 0.04, 100).sign == 1
    assert Contrast("vqa", 2.0, (0.1, 3.9), 0.16, 100).sign == 0
    assert Contrast("vqa", 2.0, None, math.nan, 1).sign == 0


def test_contrast_is_the_mean_of_paired_differences(run: Path) -> None:
    study, items = load_study(run)
    vqa = [item for item in items if item.benchmark == "vqa"]
    differences = [i.answers["comm"].score - i.answers["clip"].score for i in vqa]
    found = contrasts(study, items)[0]
    assert found.difference == pytest.approx(100 * sum(differences) / len(differences))
    assert found.n == len(vqa)


def test_groups_count_their_items(run: Path) -> None:
    _, items = load_study(run)
    vqa = [item for item in items if item.benchmark == "vqa"]
    groups = group_measures(vqa, "question_type", ["clip", "comm"])
    assert [measures["clip"].n for measures in groups.values()] == [20, 20, 20]
    assert set(groups) == {"color", "count", "exist"}


def test_figures_scale_to_their_data(run: Path) -> None:
    study, items = load_study(run)
    assert nice_ceiling(3.2) == 5.0
    assert nice_ceiling(0.1) == pytest.approx(0.1)
    one = replace(study.arms[0], curve=(CurvePoint("s", 10, 2.0), CurvePoint("s", 20, 1.0)))
    points = re.search(r'points="([^"]+)"', curves([one], "s", {one.name: "red"}))
    assert points is not None
    assert points.group(1) == "229.0,8.0 424.0,93.0"
    groups = group_measures([i for i in items if i.benchmark == "vqa"], "question_type", ["comm"])
    drawn = bars(groups, {"comm": "red"}, names={"comm": "COMM"})
    assert drawn.count("<rect") == 3


def test_missing_and_broken_records_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"study\.json: cannot read"):
        write_report(tmp_path)
    study, items = write_run(tmp_path, images=2)
    rows = [json.loads(row) for row in (tmp_path / "items.jsonl").read_text().splitlines()]
    rows[1]["answers"]["clip"]["score"] = "high"
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(DataError, match=r"items\.jsonl:2: answers\.clip\.score"):
        load_study(tmp_path)
    save_study(tmp_path, study, [replace(items[0], answers={})])
    with pytest.raises(DataError, match="has no answer of arm"):
        write_report(tmp_path)
