"""How the language model is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from manyeyes.files import written_folder
from manyeyes.world.pretrain.cards import Table
from manyeyes.world.pretrain.language.decoder import LanguageObjective
from manyeyes.world.pretrain.language.documents import Form, corpus
from manyeyes.world.pretrain.language.reading import reading_figures
from manyeyes.world.pretrain.recipe import PartRecipe
from manyeyes.world.tokenizer import train_tokenizer

CORPUS_CONVERSATIONS = 4_000
"""Conversations that the tokenizer is trained on."""

MEASURED = 400
"""Held-out documents that the card's figures are measured on."""


def _language_figures(folder: Path, seed: int) -> Mapping[str, Table]:
    """Measure the model in ``folder`` on ``MEASURED`` held-out documents of each form.

    Per kind of exchange: exact replies in per cent, the same when nothing tells of the scene, and
    perplexity per reply token.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    network = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    read = partial(reading_figures, network, tokenizer, seed, MEASURED)
    return {
        "reading of held-out layouts": _reading(read, "layout"),
        "reading of held-out descriptions": _reading(read, "words"),
    }


def _reading(figures: Callable[..., dict[str, dict[str, float]]], form: Form) -> Table:
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


TEXT: dict[str, PartRecipe] = {
    "language": PartRecipe(
        objective=lambda seed, run_dir: LanguageObjective(seed, _tokenizer(run_dir, seed)),
        measure=lambda trained, folder: _language_figures(folder, trained.seed),
        minutes=150.0,
        summary="Decoder language model (`LlamaForCausalLM`) with its tokenizer and chat template, "
        "trained from scratch on words of the world only: captions, and scenes told in words (as "
        "descriptions and as layouts: tables of word embeddings) with questions and answers about "
        "them. It has never seen an image.",
        data="conversations about scenes of split train: lessons in objects, boxes and places, "
        "then 85 % over layouts and the rest over descriptions, with 4 % bare captions",
    ),
}
"""The language model."""
