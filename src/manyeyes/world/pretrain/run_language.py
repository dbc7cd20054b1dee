"""``pretrain_language``: train one shipped language model and write its folder and card."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from manyeyes.world.pretrain.cards import Card, Table, check_part
from manyeyes.world.pretrain.finish import finish_part
from manyeyes.world.pretrain.language import decoder, t5
from manyeyes.world.pretrain.language.decoder import LanguageObjective
from manyeyes.world.pretrain.language.documents import Form, corpus
from manyeyes.world.pretrain.language.passages import PAIRS
from manyeyes.world.pretrain.language.t5 import T5Objective
from manyeyes.world.pretrain.language.text import TextObjective
from manyeyes.world.pretrain.loop import RunState, train
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


@dataclass(frozen=True)
class TextRecipe:
    """How a language model is made: its objective, its measurement, and what its card says."""

    objective: Callable[[int, PreTrainedTokenizerBase], TextObjective[Any]]
    model: type[PreTrainedModel]
    figures: Callable[..., dict[str, dict[str, float]]]
    minutes: float
    summary: str
    data: str


TEXT: dict[str, TextRecipe] = {
    "language": TextRecipe(
        LanguageObjective,
        LlamaForCausalLM,
        decoder.reading_figures,
        150.0,
        "Decoder language model (`LlamaForCausalLM`) with its tokenizer and chat template, "
        + _TAUGHT,
        "conversations about scenes of split train: lessons in objects, boxes and places, then "
        "85 % over layouts and the rest over descriptions, with 4 % bare captions",
    ),
    "t5": TextRecipe(
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
"""Every language model; ``minutes`` is the default budget on one CPU thread."""


def pretrain_language(
    part: str,
    out_dir: Path,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    threads: int = 1,
    resume: bool = False,
    start: Path | None = None,
    measured: int = MEASURED,
    progress: Callable[[str], None] | None = None,
    on_save: Callable[[TextObjective[Any], RunState], None] | None = None,
) -> Card:
    """Train ``part`` and write it, measured and with its card, to ``out_dir / part``.

    The budget is ``steps`` or ``seconds``; without either the recipe's minutes. The run's state is
    kept in ``out_dir / (part + ".run")``, from which ``resume`` continues. A new run with ``start``
    starts from the part in that folder. ``measured`` held-out documents give the card's figures.
    Raises what ``loop.train`` and ``start_from`` of the objective raise.
    """
    recipe = TEXT[part]
    check_part(part, out_dir / part)
    torch.set_num_threads(threads)
    run_dir = out_dir / f"{part}.run"
    objective = recipe.objective(seed, _tokenizer(run_dir, seed))
    if start is not None and not resume:
        objective.start_from(start)
    if steps is None and seconds is None:
        seconds = 60.0 * recipe.minutes
    state = train(
        objective,
        run_dir,
        steps=steps,
        seconds=seconds,
        resume=resume,
        on_save=None if on_save is None else lambda now: on_save(objective, now),
        progress=progress,
    )
    return finish_part(
        part,
        objective,
        state,
        out_dir / part,
        threads,
        summary=recipe.summary,
        measure=lambda folder: language_figures(part, folder, objective.seed, measured),
        data=recipe.data,
        seen={
            "documents per step": objective.images_per_step,
            "documents": state.step * objective.images_per_step,
            **({} if start is None else {"weights at the start": start.name}),
            "first document": int(objective.first_document),
            "tokens per step, last": round(state.figures.get("tokens", 0.0)),
            "vocabulary": len(objective.tokenizer),
        },
        parameters=sum(p.numel() for p in objective.parameters()),
    )


def language_figures(
    part: str, folder: Path, seed: int, number: int = MEASURED
) -> Mapping[str, Table]:
    """Measure the model in ``folder`` on ``number`` held-out documents of each form.

    Per kind of exchange: exact replies in per cent, the same when nothing tells of the scene, and
    perplexity per reply token.
    """
    recipe = TEXT[part]
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = recipe.model.from_pretrained(folder, dtype=torch.float32).eval()
    figures = partial(recipe.figures, model, tokenizer, seed, number)
    return {
        "reading of held-out layouts": _reading(figures, "layout"),
        "reading of held-out descriptions": _reading(figures, "words"),
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
