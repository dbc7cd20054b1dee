"""``pretrain_language``: train the shipped language model and write its folder and card."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from manyeyes.precision import CPU, computed_in
from manyeyes.world.pretrain.cards import Card, Table, weight_files, write_card
from manyeyes.world.pretrain.documents import Form, corpus
from manyeyes.world.pretrain.language import LanguageObjective, reading_figures
from manyeyes.world.pretrain.loop import RunState, train
from manyeyes.world.tokenizer import train_tokenizer

PART = "language"
DEFAULT_MINUTES = 50.0
CORPUS_CONVERSATIONS = 4_000
"""Conversations that the tokenizer is trained on."""

MEASURED = 400
"""Held-out documents that the card's figures are measured on."""

SUMMARY = (
    "Decoder language model (`LlamaForCausalLM`) with its tokenizer and chat template, trained "
    "from scratch on words of the world only: captions, and scenes told in words (as descriptions "
    "and as layouts: tables of word embeddings) with questions and answers about them. It has "
    "never seen an image."
)


def pretrain_language(
    out_dir: Path,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    threads: int = 1,
    resume: bool = False,
    measured: int = MEASURED,
    progress: Callable[[str], None] | None = None,
    on_save: Callable[[LanguageObjective, RunState], None] | None = None,
) -> Card:
    """Train the part and write it, measured and with its card, to ``out_dir / "language"``.

    The budget is ``steps`` or ``seconds``; without either fifty minutes. The run's state is kept
    in ``out_dir / "language.run"``, from which ``resume`` continues. ``measured`` held-out
    documents give the card's figures. Raises what ``loop.train`` raises.
    """
    torch.set_num_threads(threads)
    run_dir = out_dir / f"{PART}.run"
    objective = LanguageObjective(seed, _tokenizer(run_dir, seed))
    if steps is None and seconds is None:
        seconds = 60.0 * DEFAULT_MINUTES
    state = train(
        objective,
        run_dir,
        steps=steps,
        seconds=seconds,
        resume=resume,
        on_save=None if on_save is None else lambda now: on_save(objective, now),
        progress=progress,
    )
    return finish_language(objective, state, out_dir / PART, threads, measured)


def finish_language(
    objective: LanguageObjective,
    state: RunState,
    folder: Path,
    threads: int,
    measured: int = MEASURED,
) -> Card:
    """Export a trained objective to ``folder``, measure the files written, write the card."""
    if folder.exists():
        shutil.rmtree(folder)
    objective.export(folder)
    card = Card(
        part=PART,
        summary=SUMMARY,
        parameters=sum(p.numel() for p in objective.parameters()),
        training={
            "data": "conversations about scenes of split train: lessons over layouts, then three "
            "quarters over layouts and one over descriptions, with 4 % bare captions",
            "seed": objective.seed,
            "steps": state.step,
            "documents per step": objective.images_per_step,
            "documents": state.step * objective.images_per_step,
            "tokens per step, last": round(state.figures.get("tokens", 0.0)),
            "vocabulary": len(objective.tokenizer),
            "learning rate": objective.learning_rate,
            "seconds": round(state.seconds, 1),
            "threads": threads,
            "precision": f"{computed_in(CPU)}, weights saved in bf16",
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        files=weight_files(folder),
        figures=language_figures(folder, objective.seed, measured),
    )
    write_card(card, folder)
    return card


def language_figures(folder: Path, seed: int, number: int = MEASURED) -> Mapping[str, Table]:
    """Measure the model in ``folder`` on ``number`` held-out documents of each form.

    Per kind of exchange: exact replies in per cent, the same when nothing tells of the scene, and
    perplexity per reply token.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return {
        "reading of held-out layouts": _reading(model, tokenizer, seed, number, "layout"),
        "reading of held-out descriptions": _reading(model, tokenizer, seed, number, "words"),
    }


def _reading(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    number: int,
    form: Form,
) -> Table:
    reading = reading_figures(model, tokenizer, seed, number, form=form)
    blind = reading_figures(model, tokenizer, seed, number, form=form, described=False)
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
        partial = run_dir / "tokenizer.part"
        tokenizer.save_pretrained(partial)
        partial.rename(folder)
    return AutoTokenizer.from_pretrained(folder)
