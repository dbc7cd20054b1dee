"""COCO, Flickr30k, NoCaps and TextCaps captions from files in their official layouts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks import BENCHMARKS, captions
from manyeyes.evaluation.contract import BenchmarkResult
from manyeyes.evaluation.scorers import meteor
from manyeyes.evaluation.scorers.meteor import meteor_corpus, missing_for_meteor
from manyeyes.evaluation.scorers.ptb import ptb_tokens

REFERENCES = {
    1: [
        "A red cube is left of a blue sphere.",
        "A red cube beside a blue sphere",
        "there's a blue ball and a red cube",
    ],
    2: [
        "Two green cylinders stand on a grey floor.",
        "two green cylinders",
        "A pair of green cylinders on the floor",
    ],
    3: [
        "A small yellow ball (shiny) behind a large cube.",
        "a yellow ball behind a cube",
        "The yellow sphere is hidden behind a big cube",
    ],
}
ANSWERS = {
    1: "a red cube left of a blue ball",
    2: "two green cylinders on a grey floor",
    3: "A big cube in front of a yellow ball.",
}
RESULTS = [{"image_id": image, "caption": text} for image, text in ANSWERS.items()]
GOLDEN = {
    "CIDEr": 3.2909769170783907,
    "BLEU-1": 0.875,
    "BLEU-2": 0.816496581,
    "BLEU-3": 0.718144897,
    "BLEU-4": 0.471404521,
    "ROUGE-L": 0.743283828,
}
PER_IMAGE = {"1": 4.042886862, "2": 4.172504873, "3": 1.657539016}
DOMAINS = {1: "in-domain", 2: "out-domain", 3: "in-domain"}


@pytest.fixture(autouse=True)
def no_meteor(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR takes seconds to start; its own tests are below."""
    monkeypatch.setattr(captions, "missing_for_meteor", lambda: "not in this test")


def coco(extra: Mapping[int, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    images = [{"id": i, "file_name": f"{i}.jpg", **(extra or {}).get(i, {})} for i in REFERENCES]
    texts = [(i, text) for i, group in REFERENCES.items() for text in group]
    rows = [{"id": n, "image_id": i, "caption": text} for n, (i, text) in enumerate(texts)]
    return {"images": images, "annotations": rows}


def karpathy(*, ids: bool = True) -> dict[str, Any]:
    images = []
    for image, texts in REFERENCES.items():
        sentences = [{"raw": t, "sentid": 10 * image + n} for n, t in enumerate(texts)]
        entry = {"filename": f"{image}.jpg", "imgid": image, "sentences": sentences}
        entry |= {"filepath": "val2014", "cocoid": image} if ids else {}
        images.append({**entry, "split": "test"})
    other = {**images[0], "imgid": 9, "split": "restval"} | ({"cocoid": 9} if ids else {})
    return {"images": [*images, other], "dataset": "coco"}


def textcaps() -> dict[str, Any]:
    return {
        "data": [
            {
                "image_id": str(image),
                "caption_id": 10 * image + place,
                "caption_str": text,
                "reference_strs": texts,
            }
            for image, texts in REFERENCES.items()
            for place, text in enumerate(texts)
        ]
    }


FILES = {
    "coco-caption": ("dataset_coco.json", karpathy()),
    "flickr30k-caption": ("dataset_flickr30k.json", karpathy(ids=False)),
    "nocaps": (
        "nocaps_test_4500_captions.json",
        coco({image: {"domain": domain} for image, domain in DOMAINS.items()}),
    ),
    "textcaps": ("TextCaps_0.1_test.json", textcaps()),
}
NAMES = sorted(FILES)


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def score(name: str, folder: Path, content: Any, results: Any = RESULTS) -> BenchmarkResult:
    benchmark = BENCHMARKS[name]
    items = benchmark.read_files([write(folder / "annotations.json", content)], split="test")
    return benchmark.score(items, benchmark.load(write(folder / "results.json", results)))


@pytest.mark.parametrize("name", NAMES)
def test_golden_figures_from_official_files(name: str, tmp_path: Path) -> None:
    result = score(name, tmp_path, FILES[name][1])
    assert result.to_json()["metrics"] == pytest.approx(GOLDEN, abs=1e-9)
    assert result.per_item == pytest.approx(PER_IMAGE, abs=1e-9)
    assert result.headline.metric == "CIDEr"
    assert result.n == 3


def test_coco_captions_file_gives_the_same_figures(tmp_path: Path) -> None:
    result = score("coco-caption", tmp_path, coco())
    assert result.to_json()["metrics"] == pytest.approx(GOLDEN, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_files_are_found_by_their_official_names(name: str, tmp_path: Path) -> None:
    file, content = FILES[name]
    write(tmp_path / file, content)
    folder = tmp_path / "images" / "val2014"
    folder.mkdir(parents=True)
    for image in REFERENCES:
        (folder / f"{image}.jpg").touch()
        (folder.parent / f"{image}.jpg").touch()
    items = BENCHMARKS[name].items(tmp_path, "test")
    assert [Path(item.image).name for item in items] == ["1.jpg", "2.jpg", "3.jpg"]
    assert all(item.references == tuple(REFERENCES[int(item.id)]) for item in items)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_rows_does_not_matter(name: str, tmp_path: Path) -> None:
    content = json.loads(json.dumps(FILES[name][1]))
    for rows in content.values():
        if isinstance(rows, list):
            rows.reverse()
    result = score(name, tmp_path, content, RESULTS[::-1])
    assert result.to_json()["metrics"] == pytest.approx(GOLDEN, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_copied_reference_beats_every_other_answer(name: str, tmp_path: Path) -> None:
    copied = [{"image_id": i, "caption": texts[0]} for i, texts in REFERENCES.items()]
    best = score(name, tmp_path, FILES[name][1], copied).headline.value
    assert best > GOLDEN["CIDEr"]
    empty = [{"image_id": image, "caption": ""} for image in REFERENCES]
    assert score(name, tmp_path, FILES[name][1], empty).headline.value == 0.0


def test_cider_of_a_domain_counts_the_domain_alone(tmp_path: Path) -> None:
    result = score("nocaps", tmp_path, FILES["nocaps"][1])
    inside = coco()
    inside["images"] = [image for image in inside["images"] if image["id"] != 2]
    inside["annotations"] = [row for row in inside["annotations"] if row["image_id"] != 2]
    alone = score("coco-caption", tmp_path, inside, [RESULTS[0], RESULTS[2]])
    assert result.headline.by["domain"]["in-domain"] == pytest.approx(alone.headline.value)
    assert result.headline.by["domain"]["out-domain"] == 0.0  # one image alone
    assert "domain.BLEU-4" in result.to_json()["by"]
    assert any("group's images alone" in note for note in result.notes)


def test_notes_say_which_images_count(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["coco-caption"]
    items = benchmark.read_files([write(tmp_path / "a.json", karpathy())], split="test")
    predictions = {str(image): text for image, text in ANSWERS.items()}
    whole = benchmark.score(items, predictions)
    assert "those of the 3 scored images" in whole.notes[0]
    assert "not comparable" not in whole.notes[0]
    part = benchmark.score(items[:2], {key: predictions[key] for key in ("1", "2")})
    assert "2 scored images, a part of the 3 of the split: not comparable" in part.notes[0]
    assert any("METEOR is left out: not in this test" in note for note in part.notes)


def test_karpathys_file_asks_for_a_split_and_puts_restval_into_train(tmp_path: Path) -> None:
    path = write(tmp_path / "dataset_coco.json", karpathy())
    with pytest.raises(UsageError, match="holds the splits test, train; choose one"):
        BENCHMARKS["coco-caption"].read_files([path])
    assert [i.id for i in BENCHMARKS["coco-caption"].read_files([path], split="train")] == ["9"]


def test_textcaps_without_reference_lists_takes_the_rows(tmp_path: Path) -> None:
    content = textcaps()
    for row in content["data"]:
        del row["reference_strs"]
    result = score("textcaps", tmp_path, content)
    assert result.headline.value == pytest.approx(GOLDEN["CIDEr"])


def broken(name: str, change: Any) -> Any:
    content = json.loads(json.dumps(FILES[name][1]))
    change(content)
    return content


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("coco-caption", {"questions": []}, "annotations.json"),
        (
            "coco-caption",
            broken("coco-caption", lambda c: c["images"][1].pop("sentences")),
            ", entry 2: ",
        ),
        ("flickr30k-caption", coco(), ", entry 1: .*filename: is missing"),
        (
            "nocaps",
            broken("nocaps", lambda c: c["images"][2].update(domain="near domain")),
            r", entry 3: .*domain: expected one of .*did you mean 'near-domain'",
        ),
        ("nocaps", coco(), r", entry 1: .*domain: is missing"),
        ("textcaps", {"data": []}, "data: holds no rows"),
        ("textcaps", [], "expected an object with the list 'data'"),
        (
            "textcaps",
            broken("textcaps", lambda c: c["data"][0].update(reference_strs=["a", 3])),
            r", entry 1: .*reference_strs: expected a list of texts",
        ),
        ("textcaps", {"data": [{"image_id": "a"}]}, "caption_str: is missing"),
        ("textcaps", {"data": [{"image_id": "../a", "caption_str": "b"}]}, "image_id: "),
    ],
)
def test_broken_annotations_are_named(
    name: str, content: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        score(name, tmp_path, content)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([*RESULTS, RESULTS[0]], r"results.json, entry 4: image_id: '1' occurs twice"),
        (RESULTS[:2], "no prediction for 1 ids: '3'"),
        ([*RESULTS, {"image_id": 4, "caption": "a"}], "unknown ids: '4'"),
        ([{"image_id": 1, "captoin": "a"}], r"results.json, entry 1: caption: is missing"),
        ([{"image_id": 1, "caption": None}], r"results.json, entry 1: caption: expected a text"),
    ],
)
def test_broken_results_are_named(results: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        score("nocaps", tmp_path, FILES["nocaps"][1], results)


def test_missing_meteor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meteor, "find_spec", lambda name: None)
    assert "pip install 'manyeyes[captions]'" in str(missing_for_meteor())
    with pytest.raises(UsageError, match="needs pycocoevalcap"):
        meteor_corpus([("a",)], [[("a",)]])
    monkeypatch.setattr(meteor, "_jar", lambda: Path("meteor-1.5.jar"))
    monkeypatch.setattr(meteor.shutil, "which", lambda name: None)
    assert "needs Java" in str(missing_for_meteor())


def test_a_failing_meteor_program_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\necho 'no memory' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(meteor, "_jar", lambda: Path("meteor-1.5.jar"))
    with pytest.raises(UsageError, match="METEOR's program failed: no memory"):
        meteor_corpus([("a",)], [[("a",)]])


def test_golden_meteor_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = missing_for_meteor()
    if missing is not None:
        pytest.skip(missing)
    monkeypatch.setattr(captions, "missing_for_meteor", lambda: None)
    result = score("coco-caption", tmp_path, karpathy())
    assert result.to_json()["metrics"]["METEOR"] == pytest.approx(0.407689081, abs=1e-9)
    texts = [ptb_tokens(text) for text in ("a red cube", "two dogs")]
    perfect = meteor_corpus(texts, [[text] for text in texts])
    assert perfect.score() == pytest.approx(1.0)
    assert perfect.per_image() == pytest.approx([1.0, 1.0])
