"""WebDataset tars: rows by key, images by offset, and every fault named."""

from __future__ import annotations

import io
import json
import pickle
import re
import tarfile
from pathlib import Path

import pytest

from manyeyes.data.containers.shards import expand_shards
from manyeyes.data.containers.tars import tar_rows
from manyeyes.data.dataset import load_images
from manyeyes.data.feature_store import content_id
from manyeyes.data.files import check_file, detect_format, read_samples
from manyeyes.data.mixture import fingerprint
from manyeyes.data.opened_images import open_images
from manyeyes.errors import DataError, ImageError
from manyeyes.images.reading import image_size
from manyeyes.records import PackedImage
from packed import CHAT, make_tar, png


def chats(count: int, start: int = 0) -> list[tuple[str, bytes]]:
    found = []
    for number in range(start, start + count):
        found.append((f"part/{number:03d}.png", png(number)))
        found.append((f"part/{number:03d}.json", json.dumps(CHAT).encode()))
    return found


def test_conversations_with_their_images(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "train.tar", chats(3))
    assert detect_format(path) == "llava"
    samples, report = read_samples(path)
    assert [sample.id for sample in samples] == ["part/000", "part/001", "part/002"]
    assert report.samples == 3
    for number in (2, 0, 1):  # in any order
        (picture,) = load_images(samples[number])
        assert picture.getpixel((0, 0)) == (number, 0, 0)
        (image,) = samples[number].images
        assert image == f"{path}/part/{number:03d}.png"
        assert image_size(image) == (4, 3)
        assert content_id(image) == content_id(png(number))


def test_images_survive_a_process_boundary(tmp_path: Path) -> None:
    samples, _ = read_samples(make_tar(tmp_path / "train.tar", chats(1)))
    (image,) = pickle.loads(pickle.dumps(samples[0])).images
    assert isinstance(image, PackedImage)
    assert (image, image.read()) == (samples[0].images[0], png(0))


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    make_tar(tmp_path / "train-08.tar", chats(2))
    make_tar(tmp_path / "train-09.tar", chats(1, 2))
    make_tar(tmp_path / "train-10.tar", chats(1, 3))
    samples, report = read_samples(tmp_path / "train-{08..10}.tar")
    assert [sample.id[-1] for sample in samples] == ["0", "1", "2", "3"]
    assert report.path.endswith("train-{08..10}.tar")
    (tmp_path / "train-09.tar").unlink()
    with pytest.raises(DataError, match=r"train-09\.tar: no such file"):
        read_samples(tmp_path / "train-{08..10}.tar")


def test_names_of_shards() -> None:
    assert expand_shards("a-{8..10}.tar") == ["a-8.tar", "a-9.tar", "a-10.tar"]
    assert expand_shards("a-{000..001}-of-2.parquet")[1] == "a-001-of-2.parquet"
    assert expand_shards("plain.tar") == ["plain.tar"]
    for wrong in ("a-{3..2}.tar", "{0..1}-{0..1}.tar", "{0..99999999}.tar"):
        with pytest.raises(DataError, match="range"):
            expand_shards(wrong)


def test_images_beside_texts_are_captions(tmp_path: Path) -> None:
    members = [("a.jpg.png", png(1)), ("a.txt", b"A square.\n"), ("b.png", png(2)), ("c.txt", b"?")]
    path = make_tar(tmp_path / "captions.tar", members)
    assert detect_format(path) == "image_text"
    samples, report = read_samples(path, skip_bad_rows=True)
    assert [sample.turns[-1].text for sample in samples] == ["A square."]
    assert [error.entry for error in report.errors] == [2, 3]
    assert "caption: is missing" in str(report.errors[0]) or "text" in str(report.errors[0])


def test_several_images_of_a_key(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "<image><image> Same?"}]}
    chat["messages"].append({"role": "assistant", "content": "No."})
    members = [("a.0.png", png(1)), ("a.1.png", png(2)), ("a.json", json.dumps(chat).encode())]
    samples, _ = read_samples(make_tar(tmp_path / "pairs.tar", members))
    assert [i.getpixel((0, 0))[0] for i in load_images(samples[0])] == [1, 2]


def test_order_and_fingerprint_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, _ = read_samples(make_tar(tmp_path / "train.tar", chats(2)))
    two, _ = read_samples(make_tar(tmp_path / "other" / "train.tar", chats(2)))
    assert fingerprint(one) == fingerprint(two)


@pytest.mark.parametrize("name", ["/etc/a.png", "../a.png", "x/../../a.png", "x\\a.png"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    path = make_tar(tmp_path / "train.tar", [*chats(1), (name, png(1))])
    samples, report = read_samples(path, skip_bad_rows=True)
    assert len(samples) == 1
    assert "expected members with relative names" in str(report.errors[0])


def test_links_and_repeated_members_are_refused(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "train.tar", chats(1))
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for _ in range(2):
            info = tarfile.TarInfo("c.png")
            info.size = len(png(1))
            tar.addfile(info, io.BytesIO(png(1)))
    _, report = read_samples(path, skip_bad_rows=True)
    assert ["ordinary files" in str(e) or "twice" in str(e) for e in report.errors] == [True, True]


@pytest.mark.parametrize("again", ["part/000.png", "part/000.json", "./part/000.png"])
def test_a_member_that_comes_again_later_is_an_error(tmp_path: Path, again: str) -> None:
    """The first row keeps its own picture; the second one is named."""
    text = json.dumps({**CHAT, "id": "other"}).encode()
    data = text if again.endswith("json") else png(9)
    path = make_tar(tmp_path / "train.tar", [*chats(3), (again, data)])
    message = r"train\.tar, entry 4: holds 'part/000' again, which was entry 1"
    with pytest.raises(DataError, match=message):
        read_samples(path)
    samples, report = read_samples(path, skip_bad_rows=True)
    assert (len(samples), report.broken) == (3, 1)
    assert load_images(samples[0])[0].getpixel((0, 0)) == (0, 0, 0)
    whole = make_tar(tmp_path / "whole.tar", [*chats(2), *chats(1)])
    with pytest.raises(DataError, match=r"whole\.tar, entry 3: holds 'part/000' again"):
        read_samples(whole)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", png(0)), ("./a.png", png(1))], r"holds '\./a\.png' twice"),
        ([("a.json", b'{"caption": "x"}'), ("a.more.json", b'{"id": 1}')], "expected one JSON"),
        ([("a.txt", b"a cube"), ("a.caption", b"a ball")], "expected one text member"),
    ],
)
def test_what_a_key_holds_twice_is_an_error(
    tmp_path: Path, members: list[tuple[str, bytes]], message: str
) -> None:
    report = check_file(make_tar(tmp_path / "train.tar", [*chats(1), *members]))
    assert (report.samples, report.broken) == (1, 1)
    assert re.search(f"train.tar, entry 2: {message}", str(report.errors[0]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "000.json is not JSON"),
        (b"[]", "expected an object in part/000.json"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_broken_json_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    members = [("part/000.png", png(0)), ("part/000.json", data), *chats(1, 1)]
    report = check_file(make_tar(tmp_path / "train.tar", members))
    assert (report.samples, report.broken) == (1, 1)
    assert message in str(report.errors[0])


@pytest.mark.parametrize("kept", [700, 1024, 2048 + 300])
def test_truncated_tars_are_named(tmp_path: Path, kept: int) -> None:
    path = make_tar(tmp_path / "train.tar", chats(2))
    path.write_bytes(path.read_bytes()[:kept])
    report = check_file(path)
    assert "truncated" in str(report.errors[-1])
    assert str(path) in str(report.errors[-1])
    with pytest.raises(DataError, match="truncated"):
        read_samples(path, skip_bad_rows=True)


def test_joined_and_compressed_tars_are_refused(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "train.tar", chats(1))
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(DataError, match="data behind the mark of its end"):
        read_samples(path)
    with tarfile.open(tmp_path / "zipped.tar", "w:gz"):
        pass
    with pytest.raises(DataError, match="compressed"):
        read_samples(tmp_path / "zipped.tar")
    with pytest.raises(DataError, match="unpack it"):
        read_samples(tmp_path / "train.tar.gz")
    (tmp_path / "text.tar").write_text("this is no tar at all" * 100)
    with pytest.raises(DataError, match="is no whole tar"):
        read_samples(tmp_path / "text.tar")


def test_a_tar_that_shrinks_later_is_an_image_error(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "train.tar", chats(2))
    samples, _ = read_samples(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ImageError, match=r"sample 'part/001': .*cannot be read.*ends early"):
        load_images(samples[1])
    path.unlink()
    assert len(open_images(sample.images[0] for sample in samples)) == 2


def test_a_name_with_nul_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a\0b.txt")
        member.pax_headers = {"path": "a\0b.txt"}
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    (found,) = list(tar_rows(str(path)))
    assert isinstance(found, DataError)
    assert "relative names" in str(found)
