"""What each vision part is measured on after its training; all of it goes into its card.

Probes are trained on ``val`` scenes and measured on ``test`` scenes; neither occurs in ``train``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    CLIPModel,
    PreTrainedTokenizerBase,
    ViTMAEForPreTraining,
)

from manyeyes.encoders.spec import NORMALIZATIONS
from manyeyes.probes.places import read_places
from manyeyes.world.language import caption
from manyeyes.world.pretrain.loop import step_generator
from manyeyes.world.pretrain.measuring.features import (
    Source,
    joined,
    part_source,
    pixel_source,
    random_source,
)
from manyeyes.world.pretrain.measuring.objects import ATTRIBUTES, object_rows
from manyeyes.world.pretrain.measuring.probe import ProbeResult, probe
from manyeyes.world.pretrain.pictures import picture_batch, scene_batch
from manyeyes.world.pretrain.sizes import LAYERS, PATCHES
from manyeyes.world.pretrain.vision.clip import (
    HARD_GROUP,
    caption_rng,
    contrastive_scenes,
    false_negatives,
)
from manyeyes.world.render import render_batch
from manyeyes.world.sample import sample_scene
from manyeyes.world.scene import Scene

PROBE_SCENES = (1500, 1000)
"""Number of scenes that probes learn from and are measured on."""

CONTROL_LEVELS = (3, LAYERS)
NEIGHBOURS = 20

Figures = dict[str, float]


@dataclass(frozen=True)
class ProbeSet:
    """Rendered scenes to train probes on and to measure them on."""

    scenes: tuple[Scene, ...]
    pictures: NDArray[np.uint8]
    held_scenes: tuple[Scene, ...]
    held_pictures: NDArray[np.uint8]

    def run(self, train: Tensor, held: Tensor, seed: int = 0) -> ProbeResult:
        """Probe features of the two sets of pictures."""
        return probe(train, self.scenes, held, self.held_scenes, seed)


def probe_set(seed: int, sizes: tuple[int, int] = PROBE_SCENES) -> ProbeSet:
    """Sample and render the scenes that every probe of this seed uses."""
    train = tuple(sample_scene("val", index, seed) for index in range(sizes[0]))
    held = tuple(sample_scene("test", index, seed) for index in range(sizes[1]))
    return ProbeSet(train, render_batch(train), held, render_batch(held))


def probe_figures(
    part: str, folder: Path, seed: int, sizes: tuple[int, int] = PROBE_SCENES
) -> dict[str, Figures]:
    """Probe every level of a part, beside raw pixels, a random ViT and a two-level control."""
    data = probe_set(seed, sizes)
    figures: dict[str, Figures] = {}
    for name, train, held in _compared(part_source(part, folder), data, seed):
        result = data.run(train, held)
        figures[name] = result.figures
        figures["n"] = {"objects": float(result.objects), "scenes": float(result.scenes)}
    return figures


def _compared(source: Source, data: ProbeSet, seed: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    train, held = source(data.pictures), source(data.held_pictures)
    for level in range(1, LAYERS + 1):
        yield f"level {level}", train[level], held[level]
    pair = [joined([levels[i] for i in CONTROL_LEVELS]) for levels in (train, held)]
    yield f"levels {CONTROL_LEVELS[0]} + {CONTROL_LEVELS[1]}", pair[0], pair[1]
    random = random_source(seed)
    yield f"random ViT, level {LAYERS}", random(data.pictures)[-1], random(data.held_pictures)[-1]
    yield "raw patch pixels", pixel_source(data.pictures)[0], pixel_source(data.held_pictures)[0]


@torch.no_grad()
def retrieval_figures(folder: Path, seed: int, number: int = 512) -> dict[str, Figures]:
    """Return recall of the part's CLIP among ``number`` test pictures and their captions.

    ``hard`` asks for the right caption among the eight of a group of scenes with the same number
    of objects in the same colours, where captions that fit as well are no candidates.
    """
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    scenes = [sample_scene("test", index, seed) for index in range(number)]
    scores = _similarity(model, tokenizer, scenes)
    figures: dict[str, Figures] = {
        "image to text": _recall(scores),
        "text to image": _recall(scores.T),
        "n": {"pairs": float(number)},
    }
    groups = contrastive_scenes(0, number, seed, split="test")
    hard = [groups[i : i + HARD_GROUP] for i in range(0, number, 2 * HARD_GROUP)]
    right = torch.cat([_best(_similarity(model, tokenizer, group)) for group in hard])
    figures["hard groups of eight"] = {"accuracy": float(right.float().mean())}
    figures["n"]["hard pairs"] = float(len(right))
    return figures


def _similarity(
    model: CLIPModel, tokenizer: PreTrainedTokenizerBase, scenes: Sequence[Scene]
) -> Tensor:
    """Return cosines ``[pictures, captions]``; captions that fit another picture are -1 there."""
    texts = [caption(scene, caption_rng(scene)) for scene in scenes]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    image = model.get_image_features(pixel_values=picture_batch(scenes, "clip")).pooler_output
    text = model.get_text_features(**tokens).pooler_output
    scores = functional.normalize(image, dim=-1) @ functional.normalize(text, dim=-1).T
    return scores.masked_fill(false_negatives(scenes, texts), -1.0)


def _best(scores: Tensor) -> Tensor:
    return scores.argmax(dim=1) == torch.arange(len(scores))


def _recall(scores: Tensor) -> Figures:
    rank = (scores > scores.diagonal()[:, None]).sum(dim=1)
    return {f"recall@{k}": float((rank < k).float().mean()) for k in (1, 5, 10)}


@torch.no_grad()
def reconstruction_figures(folder: Path, seed: int, batches: int = 4) -> dict[str, Figures]:
    """Return the error of MAE on hidden patches in grey levels (0..255), root mean square.

    ``visible mean`` predicts the mean colour of the visible patches everywhere.
    """
    model = ViTMAEForPreTraining.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    model.eval()
    std = torch.tensor(NORMALIZATIONS["imagenet"][1])
    errors, baseline = [], []
    for step in range(batches):
        pixels = picture_batch(scene_batch("test", step, 128, seed), "imagenet")
        noise = torch.rand(len(pixels), PATCHES, generator=step_generator(seed, step))
        out = model(pixel_values=pixels, noise=noise)
        goal, hidden = model.patchify(pixels).unflatten(2, (-1, 3)), out.mask.bool()
        seen = (goal.mean(dim=2) * (1 - out.mask)[:, :, None]).sum(dim=1)
        mean = seen / (1 - out.mask).sum(dim=1, keepdim=True)
        guess = out.logits.unflatten(2, (-1, 3))
        errors.append((((guess - goal) * std) ** 2)[hidden].mean())
        baseline.append((((mean[:, None, None] - goal) * std) ** 2)[hidden].mean())
    return {
        "MAE": {"rms": 255 * float(torch.stack(errors).mean().sqrt())},
        "visible mean": {"rms": 255 * float(torch.stack(baseline).mean().sqrt())},
        "n": {"pictures": 128.0 * batches},
    }


def neighbour_figures(
    part: str, folder: Path, seed: int, sizes: tuple[int, int] = PROBE_SCENES
) -> dict[str, Figures]:
    """Return the accuracy per attribute of a vote of the nearest objects by cosine, last level.

    The same for raw patch pixels stands beside it. Features are read at the object's centre.
    """
    data = probe_set(seed, sizes)
    sources = {"last level": part_source(part, folder), "raw patch pixels": pixel_source}
    figures = {name: _vote(source, data) for name, source in sources.items()}
    objects = sum(len(scene.objects) for scene in data.held_scenes)
    figures["n"] = {"objects": float(objects), "neighbours": float(NEIGHBOURS)}
    return figures


def _vote(source: Source, data: ProbeSet) -> Figures:
    known, asked = object_rows(data.scenes), object_rows(data.held_scenes)
    bank = read_places(source(data.pictures)[-1], known.picture, known.place)
    query = read_places(source(data.held_pictures)[-1], asked.picture, asked.place)
    mean = bank.mean(dim=0)
    bank, query = functional.normalize(bank - mean), functional.normalize(query - mean)
    near = (query @ bank.T).topk(NEIGHBOURS, dim=1).indices
    return {
        name: float((known.labels[name][near].mode(dim=1).values == labels).float().mean())
        for name, labels in asked.labels.items()
        if name in ATTRIBUTES
    }
