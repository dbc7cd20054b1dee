"""How both language models are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5ForConditionalGeneration,
)

from manyeyes.files import written_folder
from manyeyes.world.pretrain.cards import Table
from manyeyes.world.pretrain.language import decoder, t5
from manyeyes.world.pretrain.language.decoder import LanguageObjective
from manyeyes.world.pretrain.language.documents import Form, corpus
from manyeyes.world.pretrain.language.passages import PAIRS
from manyeyes.world.pretrain.language.t5 import T5Objective
from manyeyes.world.pretrain.language.text import TextObjective
from manyeyes.world.pretrain.recipe import PartRecipe
from manyeyes.world.tokenizer import train_tokenizer

CORPUS_CONVERSATIONS = 4_000
"""Conversations that the tokenizer is trained on; both language models have the same one."""

MEASURED = 400
"""Held-out documents that the card's figures are measured on."""

_TAUGHT = (
    "trained from scratch on words of the world only: captions, and scenes told in words (as "
    "descriptions and as layouts: tables of word embeddings) with questions and answers about "
    "them. It has never seen an image."
)


Figures = dict[str, dict[str, float]]


def _recipe(
    objective: Callable[[int, PreTrainedTokenizerBase], TextObjective[Any]],
    model: type[PreTrainedModel],
    figures: Callable[..., Figures],
    minutes: float,
    summary: str,
    data: str,
) -> PartRecipe:
    return PartRecipe(
        objective=lambda seed, run_dir: objective(seed, _tokenizer(run_dir, seed)),
        measure=lambda trained, folder: _language_figures(model, figures, folder, trained.seed),
        minutes=minutes,
        summary=summary,
        data=data,
    )


TEXT: dict[str, PartRecipe] = {
    "language": _recipe(
        LanguageObjective,
        LlamaForCausalLM,
        decoder.reading_figures,
        150.0,
        "Decoder language model (`LlamaForCausalLM`) with its tokenizer and chat template, "
        + _TAUGHT,
        "conversations about scenes of split train: lessons in objects, boxes and places, then "
        "85 % over layouts and the rest over descriptions, with 4 % bare captions",
    ),
    "t5": _recipe(
        T5Objective,
        T5ForConditionalGeneration,
        t5.reading_figures,
        60.0,
        "Encoder-decoder language model (`T5ForConditionalGeneration`) with the tokenizer and chat "
        "template of the decoder language model, " + _TAUGHT,
        f"{PAIRS} questions about each of many scenes of split train: lessons in objects, boxes "
        "and places, then 85 % over layouts and the rest over descriptions",
    ),
}
"""Every language model."""


def _language_figures(
    model: type[PreTrainedModel], figures: Callable[..., Figures], folder: Path, seed: int
) -> Mapping[str, Table]:
    """Measure the model in ``folder`` on ``MEASURED`` held-out documents of each form.

    Per kind of exchange: exact replies in per cent, the same when nothing tells of the scene, and
    perplexity per reply token.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    network = model.from_pretrained(folder, dtype=torch.float32).eval()
    read = partial(figures, network, tokenizer, seed, MEASURED)
    return {
        "reading of held-out layouts": _reading(read, "layout"),
        "reading of held-out descriptions": _reading(read, "words"),
    }


def _reading(figures: Callable[..., Figures], form: Form) -> Table:
    reading = figures(form=form)
    blind = figures(form=form, described=False)
    return {
        kind: {
            "exact": row["exact"],
            **({"exact, scene withheld": blind[kind]["exact"]} if kind in blind else {}),
            "perplexity": math.exp(row["nats"]),
            "replies": row["n"],
        }
        for kind, row in reading.items()
    }


def _tokenizer(run_dir: Path, seed: int) -> PreTrainedTokenizerBase:
    """Return the run's tokenizer, trained on first use and then kept beside the run's state."""
    folder = run_dir / "tokenizer"
    if not folder.is_dir():
        tokenizer = train_tokenizer(corpus(CORPUS_CONVERSATIONS, seed))
        with written_folder(folder) as aside:
            tokenizer.save_pretrained(aside)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
