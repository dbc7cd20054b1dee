"""Starts: what an arm's fusion and bridge know before its first stage, as published projectors do.

Encoders and language model are frozen. Every step tells pictures as layouts (``told``): each
visual token or prompt shall say what the language model reads in its cell, so the arm learns what
the frozen language model already knows. From step ``ALIGNED`` on, pictures are asked questions
too, which the language model answers from what the arm says. Layouts say what only a drawn world
knows, where everything lies; every arm gets them, with the same pictures, questions and steps.
Source: ours.

Shapes: B pictures, N cells, T positions, V vocabulary, H language-model width.
"""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from manyeyes.errors import UsageError
from manyeyes.images.overlap import iou
from manyeyes.layers.attention.shared_prefix import NAME, SHARED_PREFIX
from manyeyes.model.auto.folder_code import CODE
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.precision import CPU, autocast
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.recipes import load_recipe, model_config
from manyeyes.records import VisualEvidence
from manyeyes.world.language.questions import QUESTION_KINDS
from manyeyes.world.pretrain.arms import Arm
from manyeyes.world.pretrain.cards import Table
from manyeyes.world.pretrain.kept_pictures import KeptPictures
from manyeyes.world.pretrain.language.chats import (
    CONTEXT_WEIGHT,
    DocumentBatch,
    TaughtText,
    batch_documents,
    encode_picture,
)
from manyeyes.world.pretrain.language.documents import document_scene, scene_turns
from manyeyes.world.pretrain.language.lessons import LAST_LESSON
from manyeyes.world.pretrain.loop import PartObjective
from manyeyes.world.pretrain.told import boards, check_arm
from manyeyes.world.scene import Scene

PICTURES = 6000
"""Training pictures, which come round; as many as the world's recipes draw."""

TOLD = 24
"""Pictures of a step that are told as layouts."""

ASKED = 4
"""Pictures of a step that questions are asked about, once the tokens are aligned."""

ALIGNED = 1000
"""Steps before questions begin."""

OTHERS = 47
"""Pictures whose questions a fusion reads while it is told of others."""

IOU = 0.5


class StartObjective(PartObjective):
    """One arm's fusion and bridge, before frozen encoders and a frozen language model.

    A fusion that reads what is asked gets questions about other pictures while it is told, since
    what lies in a cell does not depend on the question.
    """

    learning_rate = 2e-3
    warmup_steps = 30
    images_per_step = TOLD

    def __init__(self, arm: Arm, seed: int, aligned: int = ALIGNED) -> None:
        super().__init__()
        self.seed, self.aligned = seed, aligned
        torch.manual_seed(seed)
        config = model_config(load_recipe(arm.recipe, arm.settings).model)
        self.processor = ManyEyesProcessor.from_config(config)
        self.network = ManyEyesForConditionalGeneration.from_parts(
            config, seed=seed, dtype=torch.float32
        )
        check_arm(self.network, arm.recipe)
        self.network.language_model.set_attn_implementation(NAME)
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name.startswith(("fusion.", "bridge.")))
        self.asked_beside = self._questions_of_others()
        self.pictures = KeptPictures(self.network, self.processor, "train", seed)
        self.network.train()
        if self.network.fusion.plan.grid is not None:
            self._scale_tokens()

    @torch.no_grad()
    def _scale_tokens(self) -> None:
        """Bring the first tokens to the size of layouts: raw features can be many times larger.

        Tokens of queries come out of normalised states, which are not.
        """
        numbers = range(TOLD)
        tokens: Any = self.evidence(self.pictures, numbers).tokens
        factor = _size(self.pictures.goals(numbers)) / _size(tokens)
        last = [part for part in self.network.fusion.modules() if isinstance(part, nn.Linear)][-1]
        for parameter in last.parameters():
            parameter.mul_(factor)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of step ``step``: error of the cells and of the replies, added."""
        cells = self.cell_error(_round(step * TOLD, TOLD))
        figures = {"cells": float(cells.detach())}
        if step < self.aligned:
            return cells, figures
        replies = self.reply_loss(self.pictures, (step - self.aligned) * ASKED)
        return cells + replies, {**figures, "replies": float(replies.detach())}

    def cell_error(self, numbers: Sequence[int]) -> Tensor:
        """Mean squared distance of every board to its goals, over the goals' variance."""
        goal_BNH = self.pictures.goals(numbers)
        with autocast(CPU):
            found = boards(self.network, self.evidence(self.pictures, numbers))
        errors = [(board_BNH.float() - goal_BNH).square().mean() for board_BNH in found]
        return torch.stack(errors).mean() / goal_BNH.var()

    def reply_loss(self, pictures: KeptPictures, first: int) -> Tensor:
        """Cross-entropy of reply tokens about pictures ``first`` ..., weighted as in ``chats``."""
        batch = self.questions(pictures, first)
        with autocast(CPU):
            logits_BTV = self.logits(batch, self.evidence(pictures, _round(first, ASKED)))
        losses = functional.cross_entropy(
            logits_BTV.float().flatten(0, 1), batch.goals.flatten(), reduction="none"
        )
        weights = batch.weights.flatten()
        weights = weights * (weights > CONTEXT_WEIGHT)
        return (losses * weights).sum() / weights.sum()

    def logits(self, batch: DocumentBatch, evidence: VisualEvidence) -> Tensor:
        """Return ``[B, T, V]``: what the language model says after every position."""
        counts = torch.ones(len(batch.ids), dtype=torch.long)
        embeds_BTH = self.network.embed(batch.ids, evidence, counts)
        inner = self.network.layer_inputs(len(batch.ids), evidence, counts, input_ids=batch.ids)
        with self.network.layer_context(inner):
            logits_BTV: Tensor = self.network.language_model(
                inputs_embeds=embeds_BTH,
                position_ids=batch.positions,
                use_cache=False,
                **{SHARED_PREFIX: batch.shared},
            ).logits
        return logits_BTV

    def questions(self, pictures: KeptPictures, first: int) -> DocumentBatch:
        """Return ``ASKED`` pictures from ``first`` on with questions, new ones in every round."""
        scenes = pictures.scenes(_round(first, ASKED))
        documents = [
            self._document(scene, f"{pictures.split}/{first + i}") for i, scene in enumerate(scenes)
        ]
        return batch_documents(documents, int(self.processor.tokenizer.pad_token_id))

    def _document(self, scene: Scene, name: str) -> TaughtText:
        ids = self.network.image_token_ids
        run = [ids.image] * self.network.config.visual_tokens
        if self.processor.start_end:
            run = [ids.start, *run, ids.end]
        rng = Random(f"start/{self.seed}/{name}")
        return encode_picture(scene, rng, self.processor.tokenizer, run)

    def evidence(self, pictures: KeptPictures, numbers: Sequence[int]) -> VisualEvidence:
        """Return what the arm makes of pictures."""
        question = None
        reader = self.processor.text_reader
        if reader is not None:
            beside = self.asked_beside
            question = reader.batch([beside[number % len(beside)] for number in numbers])
        return self.network.encode_images(question, **pictures.features(numbers))

    def _questions_of_others(self) -> list[Tensor]:
        """Ids of questions about pictures of another split; none where the fusion reads none."""
        reader = self.processor.text_reader
        if reader is None:
            return []
        turns = [
            turn
            for index in range(OTHERS)
            for turn in scene_turns(
                document_scene("test", index, self.seed), Random(f"{index}"), LAST_LESSON
            )
        ]
        return [reader.ids(request) for _, request, _ in turns]

    def export(self, folder: Path) -> None:
        """Write what was trained in bf16, as a light checkpoint."""
        half = copy.deepcopy(self.network)
        nn.Module.to(half.fusion, torch.bfloat16)
        nn.Module.to(half.bridge, torch.bfloat16)
        half.language_model.set_attn_implementation("sdpa")
        half.config.get_text_config().name_or_path = ""  # the checkpoint says which part it is
        half.save_pretrained(folder)
        _drop_code(folder)

    def seen(self, steps: int) -> dict[str, int]:
        """Return the pictures of a step alone: they come round."""
        return {"images per step": self.images_per_step}

    def start_from(self, folder: Path) -> None:
        """Refuse any start: what lies before fusion and bridge ships."""
        raise UsageError("a start begins with the parts that ship: it takes no other weights")

    @torch.no_grad()
    def figures(self, pictures: int) -> Table:
        """Exact replies in per cent by kind, on held-out pictures, each given the true one so far.

        ``rec, IoU ≥ 0.5``: boxes of that overlap; ``questions``: mean over the VQA kinds.
        """
        self.network.eval()
        hits: dict[str, list[bool]] = defaultdict(list)
        held_out = KeptPictures(self.network, self.processor, "val", self.seed)
        for first in range(0, pictures, ASKED):
            batch = self.questions(held_out, first)
            with autocast(CPU):
                said = self.logits(batch, self.evidence(held_out, _round(first, ASKED)))
            said = said.argmax(dim=-1)
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


def _drop_code(folder: Path) -> None:
    """Leave out what Auto classes ask for: a start is read by stages alone."""
    (folder / CODE.name).unlink()
    config = folder / "config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    del values["auto_map"]
    config.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _share(hits: Sequence[bool]) -> dict[str, float]:
    return {"exact": 100.0 * sum(hits) / len(hits), "replies": float(len(hits))}


def _round(first: int, number: int) -> list[int]:
    """Return ``number`` pictures from ``first`` on, which start again after the last."""
    return [index % PICTURES for index in range(first, first + number)]


def _size(tensor: Tensor) -> Tensor:
    return tensor.square().mean().sqrt()
