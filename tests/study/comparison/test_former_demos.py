"""Records of former demos become the page of a study about one arm: complete, escaped, the same."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from manyeyes.errors import DataError
from manyeyes.evaluation.contract import CONSTANT
from manyeyes.study.comparison.groups import group_measures
from manyeyes.study.comparison.headline import headline
from manyeyes.study.comparison.outputs import write_outputs
from manyeyes.study.comparison.page import averaged
from manyeyes.study.comparison.summary import Summary, summarize
from manyeyes.study.comparison.verdicts import BETTER, OPEN, WORSE
from manyeyes.study.pages.figures import bars, curves, nice_ceiling
from manyeyes.study.pages.pictures import DISAGREEMENT, FAILURE, SAMPLE, Counts, choose
from manyeyes.study.record import Answer, CurvePoint
from study_runs import BENCHMARKS, save_former, write_run

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


PAIR = ("comm", "clip")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, images=60, good_challenger=0.75)
    write_outputs(folder)
    return folder


@pytest.fixture(scope="module")
def summary(run: Path) -> Summary:
    return summarize(run)


def test_arms_below_the_constant_answer_are_said_first(summary: Summary) -> None:
    assert "constant" not in headline(summary)
    best = max(arm.means["vqa"] for arm in summary.compared)
    said = headline(replace(summary, majority={**summary.majority, "vqa": best + 1.0}))
    first = f"All arms score below the best constant answer ({CONSTANT}) on VQA accuracy "
    assert said.startswith(f"{first}({best:.1f} at best, against {best + 1.0:.1f}). ")
    assert said.endswith(headline(summary))


def test_the_arm_without_images_stands_beside_and_is_not_compared(summary: Summary) -> None:
    assert [arm.name for arm in summary.arms] == ["clip", "comm", "text_only"]
    assert {v.question.reference for v in summary.verdicts} == {"clip"}
    assert {v.question.challenger for v in summary.verdicts} == {"comm"}
    assert {v.family for v in summary.verdicts} == {4}


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
    sentence = headline(summarize(run))
    assert page.text.index(sentence) < page.text.index("Compared")
    assert re.fullmatch(r"COMM did better than CLIP only in [1-4] of 4 tests\.", sentence)
    assert re.search(r"better\s+\+\d+\.\d \[\d+\.\d, \d+\.\d\]", page.text)


def test_model_text_is_escaped(tmp_path: Path) -> None:
    study, items = write_run(tmp_path)
    evil = "<script>alert(1)</script>\"' onload=x"
    answers = {name: Answer(evil, 0.0) for name in items[0].answers}
    hostile = [
        replace(i, answers=answers, question=evil, truth=evil, cluster=evil, groups={evil: evil})
        for i in items
    ]
    arms = tuple(
        replace(arm, title=evil, description=evil, facts={evil: evil}) for arm in study.arms
    )
    save_former(tmp_path, replace(study, title=evil, arms=arms, notes=(evil,)), hostile)
    write_outputs(tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not any("onload" in attributes for _, attributes in Page(text).tags)


def test_truth_and_answers_are_drawn_as_boxes(run: Path, page: Page) -> None:
    boxes = [a for tag, a in page.tags if tag == "rect" and str(a.get("class")).startswith("box ")]
    classes = [str(a["class"]) for a in boxes]
    assert classes.count("box truth") == 12
    assert classes.count("box arm0") == classes.count("box arm1") == 12
    assert classes.count("box blind") == 12
    rec = choose([i for i in averaged(summarize(run)) if i.benchmark == "rec"], PAIR, seed=0)
    target = rec[0].item.target
    assert target is not None
    assert {"x": f"{target[0]:.2f}", "y": f"{target[1]:.2f}"}.items() <= next(
        a for a in boxes if a["class"] == "box truth"
    ).items()


def test_every_benchmark_and_level_weight_is_shown(page: Page, summary: Summary) -> None:
    for title in BENCHMARKS.values():
        assert page.text.count(title) >= 2
    assert "Score over cost" not in page.text  # the record does not say what arms cost
    assert "Level weights, COMM: dinov2" in page.text
    value = summary.arm("comm").means["vqa"]
    assert f"{value:.1f} ({value - 4:.1f}–{value + 4:.1f})" in page.text
    assert "Loss, stage “align”" in page.text
    assert "manyeyes demo --seed 0" in page.text


def test_report_is_the_same_every_time(run: Path) -> None:
    before = (run / "report.html").read_bytes()
    write_outputs(run)
    assert (run / "report.html").read_bytes() == before


def test_choice_follows_its_rule(summary: Summary) -> None:
    vqa = [item for item in averaged(summary) if item.benchmark == "vqa"]
    chosen = choose(vqa, PAIR, seed=3, counts=Counts(4, 2, 3))
    assert [c.reason for c in chosen] == [DISAGREEMENT] * 4 + [FAILURE] * 2 + [SAMPLE] * 3
    gaps = [c.item.answers["comm"].score - c.item.answers["clip"].score for c in chosen]
    assert gaps[:4] == [1, -1, 1, -1]
    assert all(c.item.answers["clip"].score == 0 for c in chosen[4:6])
    assert len({c.item.id for c in chosen}) == len(chosen)
    again = choose(list(reversed(vqa)), PAIR, seed=3, counts=Counts(4, 2, 3))
    assert again == chosen


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        ([(2.0, (1.0, 3.0))], "COMM did better than CLIP only in 1 of 1 tests."),
        ([(-2.0, (-3.0, -1.0))], "COMM did worse than CLIP only in 1 of 1 tests."),
        (
            [(2.0, (-1.0, 5.0))],
            "No difference between COMM and CLIP only was found: if there is one, it is too small "
            "for this study.",
        ),
        (
            [(2.0, (1.0, 3.0)), (-2.0, (-3.0, -1.0)), (0.0, (0.0, 0.0))],
            "COMM did better than CLIP only in 1 of 3 tests, worse in 1.",
        ),
    ],
)
def test_verdict_claims_only_what_intervals_allow(
    summary: Summary, cases: list[tuple[float, tuple[float, float]]], expected: str
) -> None:
    kinds = {True: BETTER, False: WORSE}
    found = [
        replace(
            verdict,
            difference=difference,
            ci95=interval,
            verdict=OPEN if interval[0] <= 0 <= interval[1] else kinds[difference > 0],
        )
        for verdict, (difference, interval) in zip(summary.verdicts, cases, strict=False)
    ]
    assert headline(replace(summary, verdicts=tuple(found))) == expected


def test_a_difference_is_the_mean_of_paired_differences(summary: Summary) -> None:
    vqa = [item for item in averaged(summary) if item.benchmark == "vqa"]
    differences = [i.answers["comm"].score - i.answers["clip"].score for i in vqa]
    found = summary.verdicts[0]
    assert found.difference == pytest.approx(100 * sum(differences) / len(differences))
    assert found.n == len(vqa)


def test_groups_count_their_items(summary: Summary) -> None:
    vqa = [item for item in averaged(summary) if item.benchmark == "vqa"]
    groups = group_measures(vqa, "question_type", ["clip", "comm"])
    assert [measures["clip"].n for measures in groups.values()] == [20, 20, 20]
    assert set(groups) == {"color", "count", "exist"}


def test_figures_scale_to_their_data(summary: Summary) -> None:
    assert nice_ceiling(3.2) == 5.0
    assert nice_ceiling(0.1) == pytest.approx(0.1)
    one = [CurvePoint("s", 10, 2.0), CurvePoint("s", 20, 1.0)]
    points = re.search(r'points="([^"]+)"', curves({"one": one}, "s", {"one": "red"}))
    assert points is not None
    assert points.group(1) == "227.0,8.0 420.0,178.0"
    vqa = [item for item in averaged(summary) if item.benchmark == "vqa"]
    groups = group_measures(vqa, "question_type", ["comm"])
    drawn = bars(groups, {"comm": "red"}, names={"comm": "COMM"})
    assert drawn.count("<rect") == 3


def test_missing_and_broken_records_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"study\.json: cannot be read"):
        write_outputs(tmp_path)
    study, items = write_run(tmp_path, images=2)
    rows = [json.loads(row) for row in (tmp_path / "items.jsonl").read_text().splitlines()]
    rows[1]["answers"]["clip"]["score"] = "high"
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(DataError, match=r"items\.jsonl:2: answers\.clip\.score"):
        summarize(tmp_path)
    save_former(tmp_path, study, [replace(items[0], answers={})])
    with pytest.raises(DataError, match="has no answer of arm"):
        summarize(tmp_path)
    save_former(tmp_path, replace(study, arms=()), items)
    with pytest.raises(DataError, match="a study has at least one"):
        summarize(tmp_path)
