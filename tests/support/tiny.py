"""Tiny random models in Hugging Face folders: every path runs in milliseconds, offline.

    parts = save_parts(tmp_path)      # parts / "clip", parts / "dinov2", parts / "llama"
    model = model_block(parts)        # the ``model:`` block of a recipe over them
    data = save_data(tmp_path / "d")  # eight pictures and d / "train.json" in LLaVA's format

Images are 16 x 16 pixels in 4-pixel patches: 16 patches for both encoders.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

IMAGE_SIZE = 16
PATCH_SIZE = 4
POSITIONS = 2048
NUM_PATCHES = (IMAGE_SIZE // PATCH_SIZE) ** 2
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ 'ASSISTANT: ' }}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] + ' ' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT: ' }}{% endif %}"
)


def save_parts(folder: Path, *, hidden: int = 32) -> Path:
    """Save a CLIP (3 blocks), a DINOv2 (4 blocks) and a Llama (2 blocks) under ``folder``."""
    save_clip(folder / "clip")
    save_dinov2(folder / "dinov2")
    save_llama(folder / "llama", hidden=hidden)
    return folder


def save_clip(folder: Path, *, seed: int = 0, blocks: int = 3) -> Path:
    """Save a random CLIP vision model of width 16."""
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=8,
    )
    CLIPVisionModel(config).save_pretrained(folder)
    return folder


def save_dinov2(folder: Path, *, seed: int = 1, blocks: int = 4) -> Path:
    """Save a random DINOv2 model of width 16."""
    torch.manual_seed(seed)
    config = Dinov2Config(
        hidden_size=16,
        mlp_ratio=2,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
    )
    Dinov2Model(config).save_pretrained(folder)
    return folder


def save_llama(folder: Path, *, hidden: int = 32, seed: int = 2, blocks: int = 2) -> Path:
    """Save a random Llama and its byte-level tokenizer."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=POSITIONS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tagger(folder: Path, names: tuple[str, ...] = ("red", "green", "blue")) -> Path:
    """Save a random image classifier with a class for each of ``names``."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        id2label=dict(enumerate(names)),  # type: ignore[call-arg]
    )
    ViTForImageClassification(config).save_pretrained(folder)
    return folder


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte and no merges: any text round-trips."""
    symbols = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=CHAT_TEMPLATE,
    )


def save_data(folder: Path, *, samples: int = 8, name: str = "train.json", seed: int = 3) -> Path:
    """Save ``samples`` pictures with one bright square each, and LLaVA JSON that asks for its box.

    Questions and answers differ in length from sample to sample.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    rows = []
    for index in range(samples):
        x, y = (int(value) for value in random.integers(0, IMAGE_SIZE - 6, size=2))
        pixels = random.integers(0, 60, size=(IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        pixels[y : y + 6, x : x + 6] = random.integers(120, 255, size=3, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        question = "Where is it?" + " Please." * (index % 3)
        row = {
            "id": f"s{index}",
            "image": f"{index}.png",
            "conversations": [
                {"from": "human", "value": f"<image>\n{question}"},
                {"from": "gpt", "value": "<boxes>" + "!" * (index % 4)},
            ],
            "boxes": [[[x, y, x + 6, y + 6]]],
        }
        rows.append(row)
    (folder / name).write_text(json.dumps(rows))
    return folder


def model_block(parts: Path, *, encoders: tuple[str, ...] = ("clip", "dinov2")) -> dict[str, Any]:
    """Return the ``model:`` block of a COMM recipe (or single-encoder recipe) over tiny parts."""
    known = {
        "clip": {"name": "clip", "family": "clip", "levels": [1, 2, 3]},
        "dinov2": {"name": "dinov2", "family": "dinov2", "levels": [3, 4]},
    }
    chosen = [{**known[name], "checkpoint": str(parts / name)} for name in encoders]
    return {
        "encoders": chosen,
        "fusion": {"name": "comm"},
        "bridge": {"name": "placeholder", "start_end": True},
        "language": {"checkpoint": str(parts / "llama")},
        "prompt_style": "vicuna_v1.1",
        "box_style": "shikra",
        "geometry": "pad",
    }


def save_t5(folder: Path, *, hidden: int = 32, seed: int = 3) -> Path:
    """Save a random T5 with 2 + 2 blocks and the byte-level tokenizer, laid out as FlanT5.

    Its file holds an output head of its own, and its configuration says so.
    """
    tokenizer = byte_tokenizer()
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=hidden,
        d_kv=16,
        d_ff=2 * hidden,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dropout_rate=0.0,
        tie_word_embeddings=False,
    )
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(torch.randn(len(tokenizer), hidden))
    model.save_pretrained(folder)
    fields = json.loads((folder / "config.json").read_text())
    del fields["scale_decoder_outputs"]  # what transformers makes of the published field
    (folder / "config.json").write_text(json.dumps({**fields, "tie_word_embeddings": False}))
    tokenizer.save_pretrained(folder)
    return folder


def begin_texts(tokenizer: PreTrainedTokenizerFast) -> None:
    """Let a tokenizer begin every text with its first token, as Llama's and Gemma's do."""
    begin = str(tokenizer.bos_token)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A",
        pair=f"{begin} $A $B",
        special_tokens=[(begin, tokenizer.convert_tokens_to_ids(begin))],
    )
