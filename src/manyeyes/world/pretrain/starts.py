"""Starts: what an arm's fusion and bridge know before its first stage, as published projectors do.

Encoders and language model are frozen. Every step shows pictures twice. One batch is told as
layouts (``layouts``): each visual token shall be the vector of its cell, so the arm learns what the
frozen language model already reads. The other is asked questions, which the language model answers
from the tokens. The first half uses what only a drawn world knows, where everything lies; every arm
gets it, with the same pictures, questions and steps. Source: ours.

Shapes: B pictures, N cells, T positions, V vocabulary, H language-model width.
"""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from manyeyes.encoders import ENCODERS
from manyeyes.errors import UsageError
from manyeyes.images.overlap import iou
from manyeyes.layers.attention.shared_prefix import NAME, SHARED_PREFIX
from manyeyes.model.inputs import PIXELS
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.precision import CPU, autocast
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.recipes import load_recipe, model_config
from manyeyes.records import VisualEvidence
from manyeyes.world.language.questions import QUESTION_KINDS
from manyeyes.world.pretrain.cards import Table
from manyeyes.world.pretrain.language.chats import (
    CONTEXT_WEIGHT,
    DocumentBatch,
    TaughtText,
    batch_documents,
    encode_picture,
)
from manyeyes.world.pretrain.language.documents import document_scene
from manyeyes.world.pretrain.language.layouts import CELLS, mix_words
from manyeyes.world.pretrain.loop import PartObjective
from manyeyes.world.pretrain.pictures import picture_batch
from manyeyes.world.scene import Scene

ARMS: Mapping[str, str] = {
    "clip": "clip/world",
    "clip-levels": "clip/world-levels",
    "clip-twice": "clip/world-twice",
    "comm": "comm/world",
    "concat": "concat/world",
    "dinov2": "dinov2/world",
    "dinov2-linear": "dinov2/world-linear",
}
"""Recipe of every arm whose start ships."""

ASKED = 4
"""Pictures of a step that questions are asked about; the others are told as layouts."""

IOU = 0.5


class StartObjective(PartObjective):
    """One arm's fusion and bridge, before frozen encoders and a frozen language model."""

    learning_rate = 2e-3
    warmup_steps = 30

    def __init__(self, recipe: str, seed: int, images_per_step: int = 52) -> None:
        super().__init__()
        self.seed, self.images_per_step = seed, images_per_step
        torch.manual_seed(seed)
        loaded = load_recipe(recipe, [f"stages.{_first_stage(recipe)}.start=[]"])
        config = model_config(loaded.model)
        self.processor = ManyEyesProcessor.from_config(config)
        self.network = ManyEyesForConditionalGeneration.from_parts(
            config, seed=seed, dtype=torch.float32
        )
        if config.visual_tokens != CELLS:
            raise UsageError(
                f"{recipe}: a start is made for {CELLS} visual tokens, one a cell of a layout; "
                f"this arm has {config.visual_tokens}"
            )
        self.network.language_model.set_attn_implementation(NAME)
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name.startswith(("fusion.", "bridge.")))
        self.network.train()

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of step ``step``: error of the cells and of the replies, added."""
        number, first = self.images_per_step, step * self.images_per_step
        scenes = [document_scene("train", first + i, self.seed) for i in range(number)]
        asked, told = scenes[:ASKED], scenes[ASKED:]
        cells = self.cell_error(told)
        replies = self.reply_loss(self.questions(asked, first), asked)
        figures = {"cells": float(cells.detach()), "replies": float(replies.detach())}
        return cells + replies, figures

    def cell_error(self, scenes: Sequence[Scene]) -> Tensor:
        """Mean squared distance of visual tokens to clean layouts, over the layouts' variance."""
        tokenizer = self.processor.tokenizer
        table_VH = self.network.language_model.get_input_embeddings().weight
        layouts = [mix_words(scene, Random(0), tokenizer, clean=True) for scene in scenes]
        goal_BNH = torch.stack(layouts)[..., : len(table_VH)] @ table_VH
        with autocast(CPU):
            tokens_BNH = self.network.bridge.mixed(self.evidence(scenes).tokens)
        return (tokens_BNH.float() - goal_BNH).square().mean() / goal_BNH.var()

    def reply_loss(self, batch: DocumentBatch, scenes: Sequence[Scene]) -> Tensor:
        """Cross-entropy of reply tokens, weighted as in ``chats``."""
        with autocast(CPU):
            logits_BTV = self.logits(batch, scenes)
        losses = functional.cross_entropy(
            logits_BTV.float().flatten(0, 1), batch.goals.flatten(), reduction="none"
        )
        weights = batch.weights.flatten()
        weights = weights * (weights > CONTEXT_WEIGHT)
        return (losses * weights).sum() / weights.sum()

    def logits(self, batch: DocumentBatch, scenes: Sequence[Scene]) -> Tensor:
        """Return ``[B, T, V]``: what the language model says after every position."""
        counts = torch.ones(len(scenes), dtype=torch.long)
        embeds_BTH = self.network.embed(batch.ids, self.evidence(scenes), counts)
        logits_BTV: Tensor = self.network.language_model(
            inputs_embeds=embeds_BTH,
            position_ids=batch.positions,
            use_cache=False,
            **{SHARED_PREFIX: batch.shared},
        ).logits
        return logits_BTV

    def questions(self, scenes: Sequence[Scene], first: int, split: str = "train") -> DocumentBatch:
        """Return the pictures ``first``, ``first + 1``, ... with questions about each."""
        documents = [self._document(scene, first + i, split) for i, scene in enumerate(scenes)]
        return batch_documents(documents, int(self.processor.tokenizer.pad_token_id))

    def _document(self, scene: Scene, index: int, split: str) -> TaughtText:
        ids = self.network.image_token_ids
        run = [ids.image] * self.network.config.visual_tokens
        if self.processor.start_end:
            run = [ids.start, *run, ids.end]
        rng = Random(f"start/{self.seed}/{split}/{index}")
        return encode_picture(scene, rng, self.processor.tokenizer, run)

    def evidence(self, scenes: Sequence[Scene]) -> VisualEvidence:
        """Return what the arm makes of rendered pictures."""
        pixels: dict[str, Any] = {
            f"{PIXELS}{spec.name}": picture_batch(scenes, ENCODERS[spec.family].normalization)
            for spec in self.network.config.encoder_specs()
        }
        return self.network.encode_images(**pixels)

    def export(self, folder: Path) -> None:
        """Write what was trained in bf16, as a light checkpoint."""
        half = copy.deepcopy(self.network)
        nn.Module.to(half.fusion, torch.bfloat16)
        nn.Module.to(half.bridge, torch.bfloat16)
        half.language_model.set_attn_implementation("sdpa")
        half.save_pretrained(folder)

    @torch.no_grad()
    def figures(self, pictures: int) -> Table:
        """Exact replies in per cent by kind, on held-out pictures, each given the true one so far.

        ``rec, IoU ≥ 0.5``: boxes of that overlap; ``questions``: mean over the VQA kinds.
        """
        self.network.eval()
        hits: dict[str, list[bool]] = defaultdict(list)
        for first in range(0, pictures, ASKED):
            scenes = [document_scene("val", first + i, self.seed) for i in range(ASKED)]
            batch = self.questions(scenes, first, "val")
            with autocast(CPU):
                said = self.logits(batch, scenes).argmax(dim=-1)
            for reply in batch.replies:
                span = slice(reply.first, reply.end)
                given, goal = said[reply.document, span], batch.goals[reply.document, span]
                hits[reply.kind].append(torch.equal(given, goal))
                if reply.kind == "rec":
                    hits[f"rec, IoU ≥ {IOU}"].append(self._overlaps(given, goal))
        table = {kind: _share(found) for kind, found in sorted(hits.items())}
        asked = [table[kind] for kind in QUESTION_KINDS if kind in table]
        mean = sum(row["exact"] for row in asked) / len(asked)
        return {**table, "questions": {"exact": mean, "replies": sum(r["replies"] for r in asked)}}

    def _overlaps(self, said: Tensor, goal: Tensor) -> bool:
        decode = self.processor.tokenizer.decode
        try:
            box, true = (json.loads(decode(ids[:-1])) for ids in (said, goal))
            return iou(tuple(box), tuple(true)) >= IOU
        except (ValueError, TypeError, IndexError):
            return False


def _first_stage(recipe: str) -> str:
    return load_recipe(recipe).stages[0].name


def _share(hits: Sequence[bool]) -> dict[str, float]:
    return {"exact": 100.0 * sum(hits) / len(hits), "replies": float(len(hits))}
