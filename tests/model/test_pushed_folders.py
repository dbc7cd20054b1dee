"""``push_to_hub``: what is uploaded, seen through a hub that only takes note."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import EntryNotFoundError
from transformers.utils import hub as transformers_hub

from manyeyes.checkpoints.card import MARK
from whole_model import Build


class _Hub:
    """A hub with one repository, whose page is ``page``; remembers the files of each upload."""

    def __init__(self, page: str | None = None) -> None:
        self.page = page
        self.uploads: list[dict[str, str]] = []
        self.repositories: list[str] = []

    def create_repo(self, repo_id: str, **words: Any) -> SimpleNamespace:
        self.repositories.append(repo_id)
        return SimpleNamespace(repo_id=repo_id)

    def create_commit(self, *, operations: list[Any], **words: Any) -> str:
        small = (one for one in operations if not one.path_in_repo.endswith(".safetensors"))
        self.uploads.append(
            {one.path_in_repo: Path(one.path_or_fileobj).read_text("utf-8") for one in small}
        )
        return "done"

    def load(self, repo_id: str, **words: Any) -> ModelCard:
        if self.page is None:
            raise EntryNotFoundError("none")
        return ModelCard(self.page)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> _Hub:
    found = _Hub()
    monkeypatch.setattr(transformers_hub, "hf_api", lambda: found)
    for module in ("modeling_utils", "processing_utils"):
        monkeypatch.setattr(f"transformers.{module}.hf_api", lambda: found)
    monkeypatch.setattr(transformers_hub.ModelCard, "load", found.load)
    return found


def test_a_pushed_model_has_code_and_card(build: Build, hub: _Hub, tmp_path: Path) -> None:
    model, processor = build()
    model.push_to_hub("me/mine", tags=["asked"])
    (files,) = hub.uploads
    assert {"config.json", "modeling_manyeyes.py", "README.md"} <= files.keys()
    assert MARK in files["README.md"] and "# me/mine" in files["README.md"]
    assert ModelCard(files["README.md"]).data.tags == ["manyeyes", "custom_code", "asked"]

    hub.page = files["README.md"]
    processor.push_to_hub("me/mine")
    assert hub.uploads[-1]["README.md"] == hub.page
    assert "modeling_manyeyes.py" in hub.uploads[-1]

    hub.page = "---\nlicense: mit\n---\n# What the owner of the repository says\n"
    model.push_to_hub("me/mine")
    assert hub.uploads[-1]["README.md"] == hub.page

    model.save_pretrained(tmp_path / "named", push_to_hub=True)
    processor.save_pretrained(str(tmp_path / "named"), push_to_hub=True)
    assert hub.repositories[-2:] == ["named", "named"]
    assert all("modeling_manyeyes.py" in files for files in hub.uploads[-2:])
