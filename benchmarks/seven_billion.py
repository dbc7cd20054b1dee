"""What ``gpu.py`` measures: COMM's encoders before a 7B language model, and LLaVA of transformers.

Both have random weights in bfloat16, made on the device they run on; what learns is in float32. At
tiny size they are the same code with the smallest parts.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from alignment_step import Rows
from packing import training
from pair import QUICK, Row, Sizes, peer_config, text_config, tokenizer
from peft import LoraConfig, get_peft_model
from transformers import LlavaForConditionalGeneration, TrainingArguments

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.data.feature_store import FeatureStore
from manyeyes.layers.adapters.lora import LoraOptions
from manyeyes.recipes import PartTraining, Recipe, StageRecipe, load_recipe, model_config
from manyeyes.training.lora import prepare_lora
from manyeyes.training.trainable import Train, assign, freeze

SEVEN_B = Sizes(
    image_size=336,
    patch=14,
    vision_width=1024,
    vision_layers=24,
    vision_heads=16,
    width=4096,
    layers=32,
    heads=32,
    kv_heads=32,
    inner=11008,
    vocabulary=32_000,
    tied=False,
)
TINY = dataclasses.replace(QUICK, tied=False)
PROJECTOR, LORA, FULL = "projector", "LoRA", "full"
_LORA = LoraOptions(rank=16, alpha=32)
TRAIN: Mapping[str, Train] = {
    PROJECTOR: {"fusion": True},
    LORA: {"fusion": True, "language": PartTraining(lora=_LORA)},
    FULL: {"fusion": True, "language": True},
}


def device() -> torch.device:
    """The accelerator, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def recipe(sizes: Sizes, tuning: str, batch: int) -> Recipe:
    """COMM as published, with the language model and the sizes of ``sizes``, one stage."""
    block = copy.deepcopy(load_recipe("comm/paper").model)
    block |= {"language": {"config": text_config(sizes).to_dict()}, "prompt_style": "plain"}
    block["bridge"]["start_end"] = False  # the peer has no such markers
    for encoder in block["encoders"] if sizes.vision_layers < 24 else ():
        encoder["image_size"] = sizes.image_size
        encoder["levels"] = f"1-{sizes.vision_layers}"
        encoder["backbone"] |= {
            "hidden_size": sizes.vision_width,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision_heads,
            "image_size": sizes.image_size,
            "patch_size": sizes.patch,
        }
    for encoder in block["encoders"]:
        del encoder["checkpoint"]
    stage = StageRecipe(
        name="step",
        train=dict(TRAIN[tuning]),
        data=[{"path": "random.json"}],  # type: ignore[list-item]
        training={"bf16": True, "per_device_train_batch_size": batch, "max_steps": 1},
    )
    return Recipe(name="gpu", model=block, dtype="bfloat16", stages=[stage])


def build_ours(sizes: Sizes) -> tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]:
    """Ours with random weights in bfloat16, and its processor."""
    config = model_config(recipe(sizes, PROJECTOR, 1).model)
    processor = ManyEyesProcessor.from_config(config, tokenizer(sizes))
    torch.manual_seed(0)
    model: ManyEyesForConditionalGeneration = _in_bfloat16(ManyEyesForConditionalGeneration, config)
    return model.train(), processor


def build_peer(sizes: Sizes, tuning: str) -> Any:
    """LLaVA with random weights in bfloat16, as its users load it; with LoRA through PEFT."""
    torch.manual_seed(0)
    peer = _in_bfloat16(LlavaForConditionalGeneration, peer_config(sizes)).train()
    peer.requires_grad_(False)
    if tuning == LORA:
        targets = r".*language_model\..*(q|k|v|o|gate|up|down)_proj"
        options = LoraConfig(r=_LORA.rank, lora_alpha=int(_LORA.alpha), target_modules=targets)
        peer = get_peft_model(peer, options)
    for name, parameter in peer.named_parameters():
        if "multi_modal_projector" in name:
            parameter.requires_grad_(True)
    return peer


def _in_bfloat16(kind: Any, config: Any) -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device():
            return kind(config)
    finally:
        torch.set_default_dtype(before)


def let_learn(model: ManyEyesForConditionalGeneration, tuning: str) -> None:
    """Put LoRA on where it is asked for; what learns is in float32, the rest in bfloat16."""
    prepare_lora(model, TRAIN[tuning])
    freeze(model, assign(model, TRAIN[tuning]))
    for parameter in model.parameters():
        dtype = torch.float32 if parameter.requires_grad else torch.bfloat16
        parameter.data = parameter.data.to(dtype)


def arguments_of(folder: Path, steps: int, batch: int) -> TrainingArguments:
    """Arguments of both sides; one more step sets things up."""
    args = training(folder, steps, batch=batch)
    return dataclasses.replace(args, bf16=True, use_cpu=not torch.accelerator.is_available())


class StoredRows(Rows):
    """Rows that read what the encoders give from feature stores, one for each encoder."""

    def __init__(self, rows: Sequence[Row], stores: Mapping[str, FeatureStore]) -> None:
        super().__init__(rows)
        self.stores = stores

    def __getitem__(self, index: int) -> Row:
        number = index % len(self.rows)
        row = {k: v for k, v in self.rows[number].items() if not k.startswith("pixel_values")}
        images = [str(number)] if len(self.rows[number]["pixel_values_clip"]) else []
        return row | {f"features_{n}": store.read(images) for n, store in self.stores.items()}


@torch.no_grad()
def store_features(
    model: ManyEyesForConditionalGeneration, rows: Sequence[Row], folder: Path
) -> dict[str, FeatureStore]:
    """Encode every row's image once."""
    stores = {}
    for name, encoder in model.encoders.items():
        encoder_any: Any = encoder
        shape, key = encoder_any.packed_size(), {"encoder": name}
        store = stores[name] = FeatureStore(folder, key, shape, torch.bfloat16, max_gb=40.0)
        for number, row in enumerate(rows):
            pixels = row[f"pixel_values_{name}"]
            if len(pixels):
                features = encoder_any(pixels.to(device(), torch.bfloat16))
                store.write([str(number)], encoder_any.pack(features).bfloat16())
    return stores
