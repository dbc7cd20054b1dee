"""Shared by the tests of the language parts: a tokenizer, and runs of few documents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from manyeyes.world.pretrain import language_parts
from manyeyes.world.pretrain.language.decoder import LanguageObjective
from manyeyes.world.pretrain.language.documents import corpus
from manyeyes.world.pretrain.language.t5 import T5Objective
from manyeyes.world.pretrain.language.text import TextObjective
from manyeyes.world.pretrain.run import RECIPES
from manyeyes.world.tokenizer import train_tokenizer

OBJECTIVES: dict[str, type[TextObjective]] = {"language": LanguageObjective, "t5": T5Objective}


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(corpus(100, 0))


@pytest.fixture
def few_documents(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Return a function: a step of a part reads two documents, its card measures so many."""

    def use(part: str, measured: int) -> None:
        def objective(seed: int, run_dir: Path) -> TextObjective:
            tokenizer = language_parts._tokenizer(run_dir, seed)
            return OBJECTIVES[part](seed, tokenizer, images_per_step=2)

        monkeypatch.setattr(language_parts, "CORPUS_CONVERSATIONS", 30)
        monkeypatch.setattr(language_parts, "MEASURED", measured)
        monkeypatch.setitem(RECIPES, part, replace(RECIPES[part], objective=objective))

    return use
