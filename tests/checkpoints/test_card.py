"""Model cards: what they say, whose pages they replace, and under which licence the parts stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from manyeyes.checkpoints import licences
from manyeyes.checkpoints.card import MARK, is_ours, model_card, shown, table, write_card
from manyeyes.checkpoints.licences import licence, together


def _part(folder: Path, head: str) -> Path:
    folder.mkdir()
    (folder / "README.md").write_text(f"---\n{head}\n---\n# A part\n")
    return folder


def _config(**checkpoints: Any) -> dict[str, Any]:
    encoders = [
        {"name": name, "checkpoint": str(place)}
        for name, place in checkpoints.items()
        if name != "language"
    ]
    return {
        "encoders": encoders,
        "fusion": {"name": "comm"},
        "bridge": {"name": "placeholder"},
        "language": {"checkpoint": str(checkpoints["language"])},
        "references": {"encoders.eye.vision": {"checkpoint": "x", "sha256": "0123456789abcdef"}},
    }


def test_a_licence_is_what_a_parts_own_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert licence(str(_part(tmp_path / "mit", "license: mit"))) == "mit"
    named = "license: other\nlicense_name: llama2"
    assert licence(str(_part(tmp_path / "llama", named))) == "llama2"
    assert licence(str(_part(tmp_path / "silent", "tags: [x]"))) is None
    assert licence(str(_part(tmp_path / "broken", "license: [mit"))) is None
    assert licence(str(_part(tmp_path / "list", "license: [mit]"))) is None
    assert licence("world:clip") == "apache-2.0"
    assert licence("") is None
    assert licence("/no/such/folder/at/all") is None
    cached = {"owner/name": str(tmp_path / "mit" / "README.md"), "owner/none": object()}
    monkeypatch.setattr(licences, "try_to_load_from_cache", lambda name, file: cached.get(name))
    found = [licence(name) for name in ("owner/name", "owner/none", "owner/unseen")]
    assert found == ["mit", None, None]


def test_licences_of_several_parts() -> None:
    assert together(["mit", "mit"]) == {"license": "mit"}
    assert together(["mit", "llama2"]) == {"license": "other", "license_name": "those-of-its-parts"}
    assert together(["mit", None]) == {"license": "unknown"}
    assert together([]) == {"license": "unknown"}


def test_a_card_says_parts_licences_and_how_to_load(tmp_path: Path) -> None:
    eye = _part(tmp_path / "eye", "license: mit")
    text = model_card(_config(eye=eye, second="owner/eye", language="world:language"), "me/mine")
    data = ModelCard(text).data.to_dict()
    assert data == {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["manyeyes", "custom_code"],
        "base_model": ["owner/eye"],
        "license": "unknown",
    }
    assert text.index(MARK) < text.index("# me/mine")
    assert "sees through eye and second, joined by the fusion `comm`" in text
    assert 'from_pretrained("me/mine", trust_remote_code=True)' in text
    assert "| encoder eye | `eye` | mit | no: from its checkpoint, sha256 `0123456789ab…` |" in text
    assert "| encoder second | `owner/eye` | not known | yes |" in text
    assert "| language model | `world:language` | apache-2.0 | yes |" in text
    assert str(tmp_path) not in text
    said = ModelCard(model_card(_config(language=""), "mine", said_licence="cc-by-4.0")).data
    assert said.license == "cc-by-4.0"


def test_a_page_of_somebody_else_stays(tmp_path: Path) -> None:
    for name in ("theirs", "ours", "stock", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(_config(language="world:language")))
    theirs, ours = tmp_path / "theirs" / "README.md", tmp_path / "ours" / "README.md"
    theirs.write_text("# Mine\n")
    write_card(tmp_path / "theirs", "name")
    assert theirs.read_text() == "# Mine\n"

    write_card(tmp_path / "ours", "first")
    write_card(tmp_path / "ours", "second", sections=["## More\n\nsaid"])
    assert "# second" in ours.read_text() and "## More" in ours.read_text()
    ours.write_text(ours.read_text().replace(MARK, ""))
    write_card(tmp_path / "ours", "third")
    assert "# second" in ours.read_text()

    write_card(tmp_path / "new", "name", instead_of=tmp_path / "theirs")
    assert (tmp_path / "new" / "README.md").read_text() == "# Mine\n"


def test_the_stock_page_of_transformers_is_nobodys(tmp_path: Path) -> None:
    from huggingface_hub.errors import EntryNotFoundError
    from transformers.utils import hub as transformers_hub

    def missing(*words: Any, **more: Any) -> None:
        raise EntryNotFoundError("none")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers_hub.ModelCard, "load", missing)
        stock = transformers_hub.create_and_tag_model_card("me/mine", ["asked"])
    page = tmp_path / "README.md"
    stock.save(page)
    (tmp_path / "config.json").write_text(json.dumps(_config(language="world:language")))
    assert is_ours(page)
    page.write_text(page.read_text() + "\nAnd this I know of it.\n")
    assert not is_ours(page)
    stock.save(page)
    write_card(tmp_path, "me/mine")
    assert ModelCard(page.read_text()).data.tags == ["manyeyes", "custom_code", "asked"]


@pytest.mark.parametrize("head", ["---\nlicense: [mit\n---\n", "---\n- a\n---\n", "\0\xff", ""])
def test_damaged_pages(head: str, tmp_path: Path) -> None:
    """One of somebody else stays as it is, ours is written anew."""
    (tmp_path / "config.json").write_text(json.dumps(_config(language="world:language")))
    page = tmp_path / "README.md"
    theirs = f"{head}# Mine\n".encode("latin-1")
    page.write_bytes(theirs)
    write_card(tmp_path, "name")
    assert page.read_bytes() == theirs
    page.write_bytes(f"{head}{MARK}\n".encode("latin-1"))
    write_card(tmp_path, "name")
    assert "# name" in page.read_text()


def test_tables_and_places() -> None:
    assert table(("a", "b"), [("x|y", 1)]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"
    assert [shown(place) for place in ("/home/me/data/rows.json", "owner/name", "world:clip")] == [
        "rows.json",
        "owner/name",
        "world:clip",
    ]
