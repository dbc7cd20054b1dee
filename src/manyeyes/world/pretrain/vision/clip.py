"""Contrastive image-text training (CLIP, Radford et al. 2021) on the world's captions only.

Colour and count alone nearly solve a random batch, and then nothing pulls on shape. So half of the
groups in a batch are *hard*: their scenes have the same number of objects in the same colours, and
only shape, size and relations tell them apart. Pairs whose caption also fits the other picture are
no negatives and leave the loss. Shapes: B pairs, L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from manyeyes.model.precision import CPU, autocast
from manyeyes.world.language import caption
from manyeyes.world.pretrain.export import save_part
from manyeyes.world.pretrain.loop import PartObjective
from manyeyes.world.pretrain.pictures import picture_batch
from manyeyes.world.pretrain.sizes import HEADS, WIDTH, vision_config
from manyeyes.world.sample import sample_scene
from manyeyes.world.scene import Color, Scene
from manyeyes.world.splits import HELD_OUT

TEXT_LAYERS = 3
TEXT_LENGTH = 77
HARD_GROUP = 8
MAX_SCALE = 60.0
"""Cap of the logit scale; the usual 100 makes this small task collapse onto a few negatives."""

_SPECIAL = ("<pad>", "<bos>", "<unk>", "<eos>")


class ClipObjective(PartObjective):
    """Image tower, text tower and the symmetric contrastive loss with masked false negatives."""

    def __init__(self, seed: int, images_per_step: int = 128) -> None:
        super().__init__()
        self.seed, self.images_per_step = seed, images_per_step
        torch.manual_seed(seed)
        self.tokenizer = make_tokenizer(seed)
        self.network = CLIPModel(clip_config(len(self.tokenizer)))
        self.network.set_attn_implementation("eager")

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the contrastive loss of step ``step`` and the in-batch accuracy."""
        scenes = contrastive_scenes(step, self.images_per_step, self.seed)
        texts = [caption(scene, caption_rng(scene)) for scene in scenes]
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt")
        pixels = picture_batch(scenes, "clip")
        with autocast(CPU):
            image = self.network.get_image_features(pixel_values=pixels).pooler_output
            text = self.network.get_text_features(**tokens).pooler_output
        image = functional.normalize(image.float(), dim=-1)
        text = functional.normalize(text.float(), dim=-1)
        logits = self.network.logit_scale.exp() * image @ text.T
        return contrastive_loss(logits, false_negatives(scenes, texts))

    def after_step(self, step: int) -> None:
        """Cap the logit scale."""
        with torch.no_grad():
            self.network.logit_scale.clamp_(max=math.log(MAX_SCALE))

    def export(self, folder: Path) -> None:
        """Write the whole ``CLIPModel`` and its tokenizer."""
        save_part(self.network, folder, "CLIPImageProcessor", "clip")
        self.tokenizer.save_pretrained(folder)


def contrastive_loss(logits: Tensor, skip: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Return the symmetric cross-entropy of ``[B, B]`` logits without the pairs in ``skip``."""
    logits = logits.masked_fill(skip, float("-inf"))
    target = torch.arange(len(logits))
    loss = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    accuracy = (logits.argmax(dim=1) == target).float().mean()
    return loss / 2, {"accuracy": float(accuracy)}


def contrastive_scenes(step: int, size: int, seed: int, split: str = "train") -> list[Scene]:
    """Return step ``step``'s scenes: groups of ``HARD_GROUP``, every second one recoloured.

    The first group, the third and so on are the recoloured, hard ones.
    """
    scenes: list[Scene] = []
    for group in range(size // HARD_GROUP):
        first = step * size + group * HARD_GROUP
        lead = sample_scene(split, first, seed)
        scenes.append(lead)
        for index in range(first + 1, first + HARD_GROUP):
            if group % 2:
                scenes.append(sample_scene(split, index, seed))
            else:
                other = sample_scene(split, index, seed, count=len(lead.objects))
                scenes.append(recolored(other, [o.color for o in lead.objects]))
    return scenes


def recolored(scene: Scene, colors: Sequence[Color]) -> Scene:
    """Give the objects of ``scene`` these colours, where that makes no held-out pair."""
    objects = tuple(
        o if (o.shape, color) in HELD_OUT else replace(o, color=color)
        for o, color in zip(scene.objects, colors, strict=True)
    )
    return replace(scene, objects=objects)


def caption_rng(scene: Scene) -> Random:
    """Return the generator of the scene's caption in contrastive training."""
    return Random(f"caption {scene.seed} {scene.split} {scene.index}")


def false_negatives(scenes: Sequence[Scene], texts: Sequence[str]) -> Tensor:
    """Return bool ``[B, B]``, true off the diagonal where caption and picture may fit after all.

    That is: the same words in any order, or objects equal in colour, shape and size.
    """
    words = [tuple(sorted(text.lower().strip(".").replace(",", "").split())) for text in texts]
    content = [tuple(sorted((o.color, o.shape, o.size) for o in s.objects)) for s in scenes]
    same = _equal(words) | _equal(content)
    return same & ~torch.eye(len(texts), dtype=torch.bool)


def _equal(keys: Sequence[tuple[object, ...]]) -> Tensor:
    numbers: dict[tuple[object, ...], int] = {}
    codes = torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])
    return codes[:, None] == codes[None, :]


def make_tokenizer(seed: int, scenes: int = 2000) -> PreTrainedTokenizerFast:
    """Return a word tokenizer over the words of the captions of the first training scenes."""
    known: set[str] = set()
    split = pre_tokenizers.BertPreTokenizer()
    for index in range(scenes):
        scene = sample_scene("train", index, seed)
        text = caption(scene, caption_rng(scene)).lower()
        known.update(word for word, _ in split.pre_tokenize_str(text))
    vocabulary = {word: i for i, word in enumerate([*_SPECIAL, *sorted(known)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = split
    ends = [(token, vocabulary[token]) for token in ("<bos>", "<eos>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        unk_token="<unk>",
        eos_token="<eos>",
        model_max_length=TEXT_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
    )


def clip_config(vocabulary: int) -> CLIPConfig:
    """Return the shipped configuration for a text vocabulary of this many words."""
    text = {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": TEXT_LENGTH,
        "pad_token_id": _SPECIAL.index("<pad>"),
        "bos_token_id": _SPECIAL.index("<bos>"),
        "eos_token_id": _SPECIAL.index("<eos>"),
    }
    return CLIPConfig(
        text_config=text,
        vision_config=vision_config().to_dict(),
        projection_dim=WIDTH,
        logit_scale_init_value=2.6592,
    )
