"""Checkpoints as they are published: old names of tensors, and files beside the weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForPreTraining

import tiny
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration
from manyeyes.checkpoints.weight_names import our_tensors


@pytest.mark.parametrize("old", [True, False])
def test_norms_of_bert_are_read_by_both_names(old: bool) -> None:
    """bert-base-uncased calls them gamma and beta."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    bert = BertForPreTraining(BertConfig(**sizes, intermediate_size=32, vocab_size=40))
    state = {n: torch.randn_like(x) for n, x in bert.state_dict().items() if x.is_floating_point()}
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    file = {}
    for name, tensor in state.items():
        for new, former in names.items() if old else ():
            name = name.replace(new, former)
        file[name] = tensor
    found = our_tensors(file, "bert")
    norm, layer = "bert.embeddings.LayerNorm.", "bert.encoder.layer.1.attention.output.LayerNorm."
    head = "cls.predictions.transform.LayerNorm."
    ours = "fusion.qformer.encoder.layer.1.attention.output.LayerNorm."
    for kind in ("weight", "bias"):
        assert torch.equal(found[f"fusion.qformer.layernorm.{kind}"], state[norm + kind])
        assert torch.equal(found[ours + kind], state[layer + kind])
        assert torch.equal(found[f"fusion.heads.lm_norm.{kind}"], state[head + kind])


def test_generation_follows_the_file_beside_the_weights(parts: Path, tmp_path: Path) -> None:
    language = shutil.copytree(parts / "llama", tmp_path / "llama")
    fields = {"eos_token_id": [2, 7], "repetition_penalty": 1.25, "pad_token_id": 0}
    (language / "generation_config.json").write_text(json.dumps(fields))
    block = {**tiny.model_block(parts), "language": {"checkpoint": str(language)}}
    model = ManyEyesForConditionalGeneration.from_parts(ManyEyesConfig(**block))
    model.requires_grad_(False)
    model.save_pretrained(tmp_path / "m")
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")
    for found in (model, again):
        assert found.generation_config.eos_token_id == [2, 7]
        assert found.generation_config.repetition_penalty == 1.25
