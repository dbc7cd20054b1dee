"""Shared by the tests of the language part: a tokenizer, and runs of few documents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from manyeyes.world.pretrain import language_parts
from manyeyes.world.pretrain.language.decoder import LanguageObjective
from manyeyes.world.pretrain.language.documents import corpus
from manyeyes.world.pretrain.run import RECIPES
from manyeyes.world.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(corpus(100, 0))


@pytest.fixture
def few_documents(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function: a step reads two documents, the card measures so many."""

    def use(measured: int) -> None:
        def objective(seed: int, run_dir: Path) -> LanguageObjective:
            tokenizer = language_parts._tokenizer(run_dir, seed)
            return LanguageObjective(seed, tokenizer, images_per_step=2)

        monkeypatch.setattr(language_parts, "CORPUS_CONVERSATIONS", 30)
        monkeypatch.setattr(language_parts, "MEASURED", measured)
        monkeypatch.setitem(RECIPES, "language", replace(RECIPES["language"], objective=objective))

    return use
