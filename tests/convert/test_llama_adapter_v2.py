"""Released LLaMA-Adapter V2 checkpoints: same logits as a slow model after the equations."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    LlamaConfig,
    LlamaForCausalLM,
)

import tiny
from cli_runs import invoke, the_object
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.convert.llama_adapter_v2 import convert
from manyeyes.convert.state_dicts import rotated
from manyeyes.errors import CheckpointError
from manyeyes.records import Turn


def _sibling(name: str) -> Any:
    """Import a module beside this file (tests are no package)."""
    place = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


released = _sibling("released_model")
CLIP_WIDTH = 12


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with projection and a LLaMA whose rotary rows are in the order of transformers."""
    folder = tmp_path_factory.mktemp("bases")
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=4,
        projection_dim=CLIP_WIDTH,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "clip")
    tokenizer = tiny.byte_tokenizer()
    tokenizer.save_pretrained(folder / "llama")
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=released.HIDDEN,
        intermediate_size=2 * released.HIDDEN,
        num_hidden_layers=released.LAYERS,
        num_attention_heads=released.HEADS,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(text)
    model.load_state_dict(hugging_face(matrices(len(tokenizer))))
    model.save_pretrained(folder / "llama")
    return folder


def matrices(vocabulary: int) -> dict[str, Tensor]:
    found: dict[str, Tensor] = released.base(vocabulary=vocabulary)
    return found


def hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {"model.embed_tokens.weight": state["tok_embeddings.weight"]}
    ours |= {"lm_head.weight": state["output.weight"], "model.norm.weight": _ones()}
    names = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    for layer in range(released.LAYERS):
        at, here = f"layers.{layer}.", f"model.layers.{layer}."
        for x in "qkvo":
            rows = state[f"{at}attention.w{x}.weight"]
            rows = rotated(rows, released.HEADS) if x in "qk" else rows
            ours[f"{here}self_attn.{x}_proj.weight"] = rows
        for theirs, name in names.items():
            ours[f"{here}mlp.{name}.weight"] = state[f"{at}feed_forward.{theirs}.weight"]
        for name in ("input_layernorm", "post_attention_layernorm"):
            ours[f"{here}{name}.weight"] = _ones()
    return ours


def _ones() -> Tensor:
    return torch.ones(released.HIDDEN)


def save(path: Path, **changes: Any) -> Path:
    """Write a released file; a tensor set to None is left out."""
    state = {**released.trained(CLIP_WIDTH), **changes}
    kept = {name: tensor for name, tensor in state.items() if tensor is not None}
    torch.save({"model": kept, "config": {"w_bias": True}}, path)
    return path


def converted(file: Path, bases: Path, **options: Any) -> Any:
    return convert(file, language=str(bases / "llama"), clip=str(bases / "clip"), **options)


@torch.no_grad()
def test_logits_are_those_of_the_equations(bases: Path, tmp_path: Path) -> None:
    model, processor, found = converted(save(tmp_path / "a.pth"), bases)
    picture = Image.effect_mandelbrot((16, 16), (-2, -1, 1, 1), 40).convert("RGB")
    prompt = processor.prompt([Turn("user", "<image>\nwhat is it?")])
    assert prompt.startswith("Below is an instruction") and prompt.endswith("### Response:")
    inputs = processor.answer_inputs([prompt], [picture])
    clip = CLIPVisionModelWithProjection.from_pretrained(bases / "clip")
    states = clip.vision_model(pixel_values=inputs["pixel_values_clip"]).last_hidden_state
    tokens = clip.visual_projection(clip.vision_model.post_layernorm(states))[0]
    state = released.trained(CLIP_WIDTH)
    visual = released.visual_query(state, tokens)
    torch.testing.assert_close(
        model.encode_images(**processor.pixels([picture])).prompts[0, 0], visual
    )
    expected = released.logits(
        matrices(len(tiny.byte_tokenizer())), state, inputs["input_ids"][0], visual
    )
    torch.testing.assert_close(model(**inputs).logits[0], expected, rtol=1e-3, atol=1e-4)
    assert found.left_out == []


@torch.no_grad()
def test_a_query_bias_in_the_wrong_order_would_show(
    bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(tmp_path / "a.pth")
    model, processor, _ = converted(file, bases)
    monkeypatch.setattr("manyeyes.convert.llama_adapter_v2.rotated", lambda tensor, heads: tensor)
    wrong, _, _ = converted(file, bases)
    inputs = processor.answer_inputs([processor.prompt([Turn("user", "what?")])])
    assert float((model(**inputs).logits - wrong(**inputs).logits).abs().max()) > 1e-2


def test_the_command_writes_a_light_folder(bases: Path, tmp_path: Path) -> None:
    file = save(tmp_path / "a.pth", **{"llama.tok_embeddings.weight": torch.zeros(3, 3)})
    command = ["convert", "llama-adapter-v2", file, "--out", tmp_path / "m", "--bgr", "--json"]
    base = ["--language", bases / "llama", "--clip", bases / "clip"]
    report = the_object(invoke(*command, *base))
    assert report["needs"] == [str(bases / "clip"), str(bases / "llama")]
    assert report["left_out"] == 1 and report["tensors"] == len(released.trained(CLIP_WIDTH))
    model = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")
    direct, _, _ = converted(file, bases)
    own = direct.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())
    processor = ManyEyesProcessor.from_pretrained(tmp_path / "m")
    red = Image.new("RGB", (16, 16), (250, 0, 0))
    pixels = processor.pixels([red])["pixel_values_clip"][0].mean(dim=(1, 2))
    assert pixels[2] > pixels[1] > pixels[0] or pixels.argmax() == 2
    again = invoke(*command, *base)
    assert "exists and is not an empty folder" in again.stdout + again.stderr


def test_a_caption_checkpoint_has_no_biases(bases: Path, tmp_path: Path) -> None:
    state = released.trained(CLIP_WIDTH)
    without = {n: None for n in state if n.startswith("llama") and "gate" not in n}
    model, _, found = converted(save(tmp_path / "c.pth", **without), bases)
    assert model.language_model.model.layers[0].self_attn.q_proj.bias is None
    assert model.config.language["added_biases"] == []
    assert float(model.bridge.gates.detach().abs().min()) > 0 and not found.scales


def test_scaled_gates_of_lora_era_models(bases: Path, tmp_path: Path) -> None:
    names = [f"llama.layers.{n}.attention.new_gate" for n in range(released.LAYERS)]
    scales = {name: torch.full((1, 1, 1, 1), 2.0 + n) for n, name in enumerate(names)}
    model, _, _ = converted(save(tmp_path / "s.pth", **scales), bases)
    assert model.bridge.gate_scales.tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter_query.weight": None}, "not LLaMA-Adapter V2's"),
        ({"llama.layers.0.attention.lora_wq_l1.weight": torch.zeros(2)}, "holds LoRA weights"),
        ({"somebody.else": torch.zeros(2)}, "unknown tensor 'somebody.else'"),
        ({"clip_proj.bias": None}, r"lacks the tensor that becomes 'fusion.scene_proj.0.bias'"),
        ({"clip_proj.weight": torch.zeros(32, 5)}, r"\(32, 5\) for 'fusion.scene_proj.0.weight'"),
        ({"llama.layers.1.attention.gate": None}, r"gates of layers \[0\], but .* 2 layers"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    bases: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        converted(save(tmp_path / "x.pth", **changes), bases)


def test_a_pickle_that_runs_code_is_refused(bases: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"model": Trap()}, protocol=2))
    for name in ("trap.pth", "missing.pth"):
        with pytest.raises(CheckpointError, match=name):
            converted(tmp_path / name, bases)
    assert not (tmp_path / "ran").exists()
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list, expected a dictionary"):
        converted(tmp_path / "list.pth", bases)


def test_rotation_moves_pairs_to_halves() -> None:
    rows = torch.arange(8.0)
    assert rotated(rows, 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert rotated(torch.arange(6.0), 1).tolist() == [0, 2, 4, 1, 3, 5]
