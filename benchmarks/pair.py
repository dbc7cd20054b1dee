"""Two models with the same weights: manyeyes and ``LlavaForConditionalGeneration``, and their rows.

Shapes: T positions of a row, I images. The peer's image token is the last word of the vocabulary,
which no text uses; ours lies outside the vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.records import Sample, Turn

Row = dict[str, Tensor]
SPECIALS = ("<pad>", "<s>", "</s>")


@dataclass(frozen=True)
class Sizes:
    """Sizes of both models, and lengths of the texts in words (= tokens)."""

    image_size: int = 224
    patch: int = 16
    vision_width: int = 768
    vision_layers: int = 12
    vision_heads: int = 12
    width: int = 576
    layers: int = 30
    heads: int = 9
    kv_heads: int = 3
    inner: int = 1536
    vocabulary: int = 49_152
    prompt_words: int = 29
    answer_words: tuple[int, int] = (30, 60)
    tied: bool = True

    @property
    def patches(self) -> int:
        """Visual tokens of one image."""
        return (self.image_size // self.patch) ** 2


FULL = Sizes()
QUICK = Sizes(
    image_size=64,
    vision_width=64,
    vision_layers=2,
    vision_heads=2,
    width=64,
    layers=2,
    heads=2,
    kv_heads=1,
    inner=128,
    vocabulary=4096,
    prompt_words=8,
    answer_words=(5, 10),
)


def vision_config(sizes: Sizes) -> CLIPVisionConfig:
    """A CLIP image tower."""
    return CLIPVisionConfig(
        hidden_size=sizes.vision_width,
        intermediate_size=4 * sizes.vision_width,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.vision_heads,
        image_size=sizes.image_size,
        patch_size=sizes.patch,
    )


def text_config(sizes: Sizes) -> LlamaConfig:
    """A Llama; at full size of SmolLM-135M's shape."""
    return LlamaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        intermediate_size=sizes.inner,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=sizes.tied,
    )


def tokenizer(sizes: Sizes) -> PreTrainedTokenizerFast:
    """One token per word ``w<number>``; exactly ``sizes.vocabulary`` of them."""
    words = [*SPECIALS, *(f"w{n}" for n in range(sizes.vocabulary - len(SPECIALS)))]
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def build_ours(
    sizes: Sizes, *, seed: int = 0
) -> tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]:
    """Our single-encoder model with random weights, float32, and its processor."""
    encoder = {
        "name": "clip",
        "family": "clip",
        "levels": [-2],
        "backbone": vision_config(sizes).to_dict(),
    }
    config = ManyEyesConfig(
        encoders=[encoder],
        fusion={"name": "single", "projector": "mlp2x"},
        bridge={"name": "placeholder", "start_end": False},
        language={"config": text_config(sizes).to_dict()},
        prompt_style="plain",
    )
    processor = ManyEyesProcessor.from_config(config, tokenizer(sizes))
    return ManyEyesForConditionalGeneration.from_parts(config, seed=seed), processor


def peer_config(sizes: Sizes) -> LlavaConfig:
    """The configuration of the peer's class."""
    return LlavaConfig(
        vision_config=vision_config(sizes),
        text_config=text_config(sizes),
        image_token_index=sizes.vocabulary - 1,
        image_seq_length=sizes.patches,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=sizes.tied,
    )


def build_peer(
    sizes: Sizes, ours: ManyEyesForConditionalGeneration
) -> LlavaForConditionalGeneration:
    """The same model as the peer's class, with our weights."""
    peer = LlavaForConditionalGeneration(peer_config(sizes))
    projector = ours.fusion.get_submodule("projector").state_dict()
    names = {"0.": "linear_1.", "2.": "linear_2."}
    peer.model.vision_tower.load_state_dict(
        ours.get_submodule("encoders.clip.backbone").state_dict()
    )
    peer.model.multi_modal_projector.load_state_dict(
        {names[name[:2]] + name[2:]: tensor for name, tensor in projector.items()}
    )
    peer.model.language_model.load_state_dict(ours.language_model.model.state_dict())
    peer.tie_weights()
    return peer.eval()


def make_rows(
    sizes: Sizes, processor: ManyEyesProcessor, count: int, *, seed: int = 0
) -> list[Row]:
    """``count`` image-caption conversations of random words, encoded by our processor."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        text = f"<image>\n{words(sizes, draw, sizes.prompt_words)}"
        answer = words(sizes, draw, draw.randint(*sizes.answer_words))
        turns = (Turn("user", text), Turn("assistant", answer))
        rows.append(processor.encode(Sample(str(number), ("",), turns), [picture(sizes, number)]))
    return rows


def words(sizes: Sizes, draw: random.Random, count: int) -> str:
    """``count`` random words, the image token not among them."""
    last = sizes.vocabulary - len(SPECIALS) - 2
    return " ".join(f"w{draw.randint(0, last)}" for _ in range(count))


def picture(sizes: Sizes, seed: int) -> Image.Image:
    """An image of random pixels."""
    shape = (sizes.image_size, sizes.image_size, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def peer_row(row: Row, sizes: Sizes, processor: ManyEyesProcessor) -> Row:
    """The same row in the peer's names."""
    ids = row["input_ids"]
    image = ids == processor.image_token_ids_by_role.image
    return {
        "input_ids": ids.masked_fill(image, sizes.vocabulary - 1),
        "labels": row["labels"],
        "pixel_values": row["pixel_values_clip"],
    }


def peer_collate(rows: Sequence[Mapping[str, Tensor]]) -> Row:
    """Right padding with an attention mask, as the peer's processor and collators make it."""
    pad = torch.nn.utils.rnn.pad_sequence
    ids = [row["input_ids"] for row in rows]
    return {
        "input_ids": pad(ids, batch_first=True, padding_value=0),
        "labels": pad([row["labels"] for row in rows], batch_first=True, padding_value=-100),
        "attention_mask": pad([torch.ones_like(x) for x in ids], batch_first=True),
        "pixel_values": torch.cat([row["pixel_values"] for row in rows]),
    }


def freeze_but(model: torch.nn.Module, part: torch.nn.Module) -> None:
    """Let only ``part`` learn."""
    model.requires_grad_(False)
    part.requires_grad_(True)
