"""What a card says of an item: marks of what is shown, IoU beside boxes, references that fold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from manyeyes.study.comparison.cards import averaged, card_rule, picture_cards
from manyeyes.study.comparison.summary import Summary, summarize
from manyeyes.study.pages.page import PictureCard, answer_row
from manyeyes.study.record import Answer
from manyeyes.study.trials.trial import QUESTIONS_FILE
from study_trials import write_study


def cards_of(folder: Path, summary: Summary) -> dict[str, list[PictureCard]]:
    colours = {arm.name: "red" for arm in summary.arms}
    return picture_cards(folder, summary, averaged(summary), colours, dict.fromkeys(colours, ""))


def test_a_text_has_its_own_mark_and_the_seeds_stand_behind_it(tmp_path: Path) -> None:
    write_study(tmp_path, images=20)
    summary = summarize(tmp_path)
    cards = cards_of(tmp_path, summary)["Questions (VQA accuracy)"]
    rows = [row for card in cards for row in card.answers]
    assert {(row.text, row.mark) for row in rows} == {("red", "✓"), ("<b>blue</b>", "✗")}
    assert {row.note for row in rows} >= {"1 of 3 seeds right", "2 of 3 seeds right"}
    assert "those of the first seed" in card_rule(summary)


def test_one_seed_has_nothing_behind_its_text(tmp_path: Path) -> None:
    write_study(tmp_path, images=8, seeds=1)
    summary = summarize(tmp_path)
    found = cards_of(tmp_path, summary)
    assert {r.note for cards in found.values() for c in cards for r in c.answers} == {""}
    assert "first seed" not in card_rule(summary)


def test_boxes_say_their_iou(tmp_path: Path) -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    row = answer_row("a", Answer("", 1.0, ((0.0, 0.0, 10.0, 5.0),)), "red", target=box)
    assert row.text == "[0, 0, 10, 5] IoU\N{NO-BREAK SPACE}0.50"
    write_study(tmp_path, images=8)
    cards = cards_of(tmp_path, summarize(tmp_path))["Boxes (REC)"]
    assert all(" IoU\N{NO-BREAK SPACE}0." in row.text for card in cards for row in card.answers)


def test_all_images_of_a_question_are_shown_and_kept(tmp_path: Path) -> None:
    write_study(tmp_path, images=8)
    questions = tmp_path / "records" / QUESTIONS_FILE
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    for row in rows:
        row["more_images"] = ["images/000001.png", "images/000002.png"]
    questions.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    summary = summarize(tmp_path)
    assert summary.items[0].images == (rows[0]["image"], *rows[0]["more_images"])
    for cards in (cards_of(tmp_path, summary)["Boxes (REC)"] for _ in range(2)):
        assert {str(card.picture).count("<svg class=") for card in cards} == {3}
        assert {str(card.picture).count('class="box truth"') for card in cards} == {1}
        assert all("Image 3 of the question" in card.picture for card in cards)
        shutil.rmtree(tmp_path / "data", ignore_errors=True)  # the second time from the records


@pytest.mark.parametrize(
    ("truth", "shown", "folded"),
    [
        ("red; dark red", "red; dark red", ""),
        ("A dog. " * 9 + "; A cat; A cow", "A dog. " * 9, "A cat; A cow"),
    ],
)
def test_long_references_fold(truth: str, shown: str, folded: str, tmp_path: Path) -> None:
    write_study(tmp_path, images=4)
    card = next(iter(cards_of(tmp_path, summarize(tmp_path)).values()))[0]
    assert PictureCard(**{**vars(card), "truth": truth}).references == (shown, folded)
