"""What vLLM's Transformers backend reads of a model and its processor, without vLLM itself.

The names are those of ``vllm/model_executor/models/transformers`` in vLLM 0.32.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

import tiny
from lion_parts import lion_block
from manyeyes import ManyEyesConfig, ManyEyesProcessor
from manyeyes.errors import PartError
from manyeyes.model.inputs import split_visual, take_texts
from manyeyes.serving.vllm.headless import HeadlessManyEyes
from manyeyes.serving.vllm.plugin import register
from manyeyes.serving.vllm.processor import PlaceholderProcessor
from manyeyes.serving.vllm.refusals import reason_against
from served_fusions import Built, blocks, build, save, save_parts, spoken

FUSIONS = sorted(blocks(Path()))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module", params=FUSIONS)
def built(request: pytest.FixtureRequest, parts: Path) -> Built:
    return build(blocks(parts)[request.param])


@pytest.fixture(scope="module")
def headless(built: Built, tmp_path_factory: pytest.TempPathFactory) -> HeadlessManyEyes:
    """The backend's model with the tensors of a saved folder, found by their new names."""
    folder = save(built, tmp_path_factory.mktemp("model"))
    model = HeadlessManyEyes(ManyEyesConfig.from_pretrained(folder))
    tensors = load_file(folder / "model.safetensors")
    named = {model.own_name(name): tensor for name, tensor in tensors.items()}
    tied = model.config.text_config.tie_word_embeddings
    assert (named.pop("lm_head.weight", None) is None) == tied
    inner = {name.removeprefix("model."): tensor for name, tensor in named.items()}
    missing, unexpected = model.load_state_dict(inner, strict=False)
    assert unexpected == [] and missing == []
    return model.eval()


def merged(model: HeadlessManyEyes, processor: ManyEyesProcessor, text: str, images: Any) -> Tensor:
    """Embeddings ``[T, H]`` of a prompt put together as vLLM does it."""
    served = PlaceholderProcessor(processor)
    ids = processor.tokenizer(text)["input_ids"]
    asked = [served.question(ids)] if processor.reads_questions else None
    shown = "".join([served.image_token] * len(images))
    inputs = served(
        text=shown, images=images, questions=asked, return_text_replacement_offsets=True
    )
    (found,) = inputs.pop("text_replacement_offsets")
    expanded: list[int] = []
    for token in ids:
        if token == served.image_token_id:
            word = found.pop(0)["replacement"]
            expanded += processor.tokenizer(word, add_special_tokens=False)["input_ids"]
        else:
            expanded.append(token)
    assert not found
    ids_T = torch.tensor(expanded)
    pixels = {name: value for name, value in inputs.items() if name != "input_ids"}
    rows = model.get_image_features(return_dict=True, **pixels).pooler_output
    assert rows is not None and rows.shape[:2] == (len(images), served.rows)
    at_image = (ids_T == served.image_token_id)[:, None]
    return model.embed_text(ids_T).masked_scatter(at_image, rows.flatten(0, 1))


@torch.no_grad()
def test_the_pieces_together_are_the_model(
    built: Built, headless: HeadlessManyEyes, pictures: list[Image.Image]
) -> None:
    model, processor = built
    for shown in ([0], [1, 2]):
        images = [pictures[place] for place in shown]
        text = spoken(processor, "what?", len(images))
        inputs = processor(images, [text])
        evidence = model.encode_images(**visual(inputs))
        expected = model.embed(inputs["input_ids"], evidence, inputs["image_counts"])
        found = merged(headless, processor, text, images)[None]
        torch.testing.assert_close(found, expected)
        mask = torch.ones(expected.shape[:2], dtype=torch.long)
        places = mask.cumsum(1) - 1
        hidden = headless(inputs_embeds=found, position_ids=places, return_dict=False)[0]
        logits = model.language_model.get_output_embeddings()(hidden)
        wanted = model.language_model(inputs_embeds=expected, attention_mask=mask).logits
        torch.testing.assert_close(logits, wanted)


def visual(inputs: Any) -> dict[str, Any]:
    """The arguments of ``encode_images`` in a processor's output."""
    pixels, rest = split_visual(inputs)
    return {"question": take_texts(rest).get("question"), **pixels}


def test_what_the_backend_reads_of_the_model(headless: HeadlessManyEyes) -> None:
    assert headless.is_backend_compatible()
    assert headless.get_decoder() is headless.language_model
    assert headless.get_encoder(modality="image") is headless, "no encoder to be taken apart"
    assert headless.get_output_embeddings() is None
    names = [name for name, _ in headless.named_parameters()]
    assert not [name for name in names if "lm_head" in name]
    assert headless.config.get_text_config() is headless.config.text_config
    assert headless.get_input_embeddings().num_embeddings == headless.config.text_config.vocab_size


def test_what_the_backend_reads_of_the_processor(built: Built, pictures: list[Image.Image]) -> None:
    processor = PlaceholderProcessor(built[1])
    assert processor.tokenizer.convert_tokens_to_ids(processor.image_token) == (
        processor.image_token_id
    )
    assert set(processor.image_processor.size) == {"height", "width"}
    marks = 2 if built[1].start_end else 0
    counted = processor._get_num_multimodal_tokens(image_sizes=[(16, 16), (900, 30)])
    assert counted["num_image_tokens"] == [built[1].visual_tokens + marks] * 2
    assert counted["num_image_patches"] == [1, 1]
    assert processor._get_num_multimodal_tokens()["num_image_tokens"] == []
    inputs = processor(text=processor.image_token * 2, images=pictures[:2], truncation=False)
    first, *others = built[1].pixels.fused
    expected = built[1].pixels(pictures[:2])
    torch.testing.assert_close(inputs["pixel_values"], expected[f"pixel_values_{first}"])
    for name in others:
        torch.testing.assert_close(inputs[f"pixel_values_{name}"], expected[f"pixel_values_{name}"])
    assert "text_replacement_offsets" not in inputs
    assert ("question_ids" in inputs) == built[1].reads_questions


def test_text_alone_has_no_pixels(built: Built) -> None:
    inputs = PlaceholderProcessor(built[1])(text="what?", return_text_replacement_offsets=True)
    assert set(inputs) == {"input_ids", "text_replacement_offsets"}
    assert inputs["text_replacement_offsets"] == [[]]


def test_the_question_is_the_text_without_tags_and_marks(parts: Path) -> None:
    _, processor = build(blocks(parts)["lion"])
    text = spoken(processor, "what?", 1)
    assert "red, cat" in text
    ids = [processor.tokenizer.bos_token_id, *processor.tokenizer(text)["input_ids"]]
    served = PlaceholderProcessor(processor)
    assert served.question(ids) == "<image>\nwhat?"
    picture = Image.new("RGB", (9, 9))
    asked = served(served.image_token, images=[picture], questions=["what?"])
    expected = processor.question_inputs(["what?"])
    assert torch.equal(asked["question_ids"], expected["question_ids"])


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A package vllm with nothing but a registry of models."""
    known: dict[str, str] = {}
    registry = SimpleNamespace(
        get_supported_archs=lambda: list(known),
        register_model=lambda name, place: known.update({name: place}),
    )
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(ModelRegistry=registry))  # type: ignore[arg-type]
    yield known
    MODEL_MAPPING._extra_content.pop(ManyEyesConfig, None)


def test_the_plugin_makes_models_known(vllm: dict[str, str], parts: Path) -> None:
    for _ in range(2):  # vLLM may do it several times
        register()
    assert vllm == {
        "ManyEyesForConditionalGeneration": "manyeyes.serving.vllm.backend:ServedByVllm"
    }
    config = ManyEyesConfig(**blocks(parts)["single"]).resolve()
    assert isinstance(AutoModel.from_config(config), HeadlessManyEyes)


def test_every_fusion_that_fills_placeholders_is_served_from_a_whole_folder(built: Built) -> None:
    config = built[0].config
    assert "the frozen parts" in str(reason_against(config))
    config.references = {}
    assert reason_against(config) is None


def test_others_are_refused_in_one_sentence(parts: Path) -> None:
    comm = tiny.model_block(parts)
    prompts = {
        **blocks(parts)["single"],
        "fusion": {"name": "llama_adapter_v2", "width": 8, "heads": 2, "depth": 2},
        "bridge": {"name": "adapter_prompts"},
    }
    biased = {**comm, "language": {**comm["language"], "added_biases": ["q_proj"]}}
    wrong = {
        "adapter prompts": prompts,
        "first layers add visual tokens": {
            **comm,
            "encoders": [{**comm["encoders"][0], "levels": [2, 3]}],
            "fusion": {"name": "deepstack"},
        },
        "encoder-decoder": lion_block(parts, "t5", bridge={"name": "placeholder"}),
        "adapters beside": lion_block(parts, "llama"),
        "added biases": biased,
        "sees pictures in tiles": {**comm, "tiling": {"most": 4}},
        "without its language model": {**comm, "language": {**comm["language"], "idle": True}},
        "LoRA is not merged": {**comm, "lora": {"language_model": {"rank": 2}}},
        "--self-contained": {**comm, "references": {"language_model": {"checkpoint": "x"}}},
    }
    for words, block in wrong.items():
        config = ManyEyesConfig(**block).resolve()
        reason = reason_against(config)
        assert reason is not None and words in reason and ". " not in reason, words
        with pytest.raises(PartError, match="vLLM cannot serve this model: "):
            HeadlessManyEyes(config)
