"""Flickr30k Entities: captions with the boxes of their phrases, and files that are not so."""

from __future__ import annotations

from pathlib import Path

import pytest

from entities_files import SENTENCES, write_entities
from manyeyes.data.containers.rows import SourceOptions
from manyeyes.data.files import check_file, detect_format, iter_samples
from manyeyes.data.readers.flickr30k_entities import (
    Phrase,
    parse_sentence,
    read_annotation,
    read_sentences,
)
from manyeyes.errors import DataError


def test_one_sample_per_caption_with_the_boxes_behind_each_phrase(tmp_path: Path) -> None:
    path = write_entities(tmp_path, "train")
    assert detect_format(path) == "flickr30k_entities"
    first, second, third = iter_samples(path, image_root="pics")
    assert first.images == ("pics/101.jpg",)
    assert first.turns[1].text == "Two men <boxes> in hats <boxes> watch it ."
    assert first.turns[1].boxes == (
        ((10, 20, 30, 60), (50, 20, 70, 60)),
        ((14, 10, 24, 20),),
    )
    assert second.turns[1].text == "The pair <boxes> stands near a street ."
    assert (third.id, third.turns[1].boxes) == ("102/0", (((0, 0, 49, 49),),))
    assert first.meta == {"image_id": "101", "sentence": 0, "size": (100, 80)}
    assert (first.turns[0].text, first.task) == (
        "<image>\nDescribe the image. Give the boxes of all objects.",
        "grounded_caption",
    )


def test_sentences_are_words_and_phrases() -> None:
    sentence = parse_sentence("A [/EN#5/people/other young  man] , [/EN#6/clothing hat] .")
    assert sentence.text == "A young man , hat ."
    assert sentence.phrases == [
        Phrase("5", ("people", "other"), "young man"),
        Phrase("6", ("clothing",), "hat"),
    ]
    assert parse_sentence("No phrases at all .").phrases == []


@pytest.mark.parametrize(
    "text",
    ["A [/EN#5/people man .", "A [/EN#5 man] .", "[/EN#/people man]", "[/EN#5/people ]"],
)
def test_broken_phrases_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "1.txt"
    path.write_text(f"Fine .\n\n{text}\n")
    with pytest.raises(DataError, match=r"1\.txt:3: expected \[/EN#chain/type words\], got"):
        read_sentences(path)


def test_an_object_may_belong_to_several_chains(tmp_path: Path) -> None:
    path = tmp_path / "1.xml"
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>9</ymax></bndbox>"
    size = "<size><width>10</width><height>10</height></size>"
    path.write_text(f"<a>{size}<object><name>3</name><name>4</name>{box}</object></a>")
    boxes, _ = read_annotation(path)
    assert boxes == {"3": ((0, 0, 4, 8),), "4": ((0, 0, 4, 8),)}


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;">]>'
    "<a><size><width>&y;</width><height>1</height></size></a>"
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (BOMB.encode(), r"1\.xml: has a document type"),
        (BOMB.replace("?>", ' encoding="utf-16"?>', 1).encode("utf-16"), "has a document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "has a document type"),
        (b"<a><b></a>", r"1\.xml:1: is not XML: mismatched tag"),
        (b"", r"1\.xml:1: is not XML: no element found"),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', r"1\.xml"),
        (b"<a/>", r"1\.xml: size/width: expected a whole number of pixels, got None"),
        (b"<a><size><width>9</width><height>-9</height></size></a>", "size/height: expected"),
        (
            b"<a><size><width>9</width><height>9</height></size><object><name>1</name>"
            b"<bndbox><xmin>5</xmin><ymin>1</ymin><xmax>4</xmax><ymax>2</ymax></bndbox></object></a>",
            r"bndbox: expected xmin <= xmax .* in object 1",
        ),
        (
            b"<a><size><width>9</width><height>9</height></size><object><name>1</name>"
            b"<bndbox><xmin>5.5</xmin></bndbox></object></a>",
            r"bndbox/xmin: expected a whole number of pixels, got '5\.5'",
        ),
    ],
)
def test_unusable_annotations_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "1.xml"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_annotation(path)


def test_missing_and_broken_files_are_errors_of_their_image(tmp_path: Path) -> None:
    path = write_entities(tmp_path)
    path.write_text("101\n999\n../102\n102\n")
    report = check_file(path, options=SourceOptions("."))
    assert (report.samples, report.broken) == (3, 2)
    assert "999.xml: no such file" in str(report.errors[0])
    assert "test.txt:3: expected the id of an image, got '../102'" in str(report.errors[1])
    (tmp_path / "Sentences" / "101.txt").write_bytes(SENTENCES["101"].encode() + b"caf\xe9")
    assert "101.txt: is not UTF-8" in str(check_file(path, options=SourceOptions(".")).errors[0])
    path.write_text("\n")
    with pytest.raises(DataError, match=r"test\.txt: is empty; expected image ids"):
        detect_format(path)
