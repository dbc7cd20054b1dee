"""Taggers: RAM against a slow reading of its equations, classifiers, thresholds, bad files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import SwinConfig, SwinForImageClassification, SwinModel

import tiny
from lion_parts import build_lion, lion_block
from manyeyes.conversation.tags import tag_sentence
from manyeyes.encoders import parse_tagger
from manyeyes.encoders.ram import SWIN_L, RamTagger
from manyeyes.errors import CheckpointError, RecipeError
from manyeyes.inference.tagging import load_tagger, tag_images
from manyeyes.records import Perceived, TagFeatures, Turn

TAGS = ("airport", "beagle", "bend", "cart", "cloud")
TOWER = {
    "image_size": 32,
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [2, 2],
    "window_size": 4,
}
WIDTH, EMBEDDING, CONTEXT, INNER, HEADS = 16, 12, 12, 24, 4


def swin(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model: Any = SwinModel(SwinConfig(patch_size=4, **TOWER), add_pooling_layer=False)  # type: ignore[arg-type]
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def released(tower: Any, *, classes: int = len(TAGS)) -> dict[str, Tensor]:
    """A checkpoint as RAM's authors write it, with the tower's weights and a random head."""
    state: dict[str, Tensor] = {}
    own = tower.state_dict()
    for key, tensor in own.items():
        name = key.removeprefix("encoder.")
        if name.startswith("embeddings.patch_embeddings.projection"):
            name = name.replace("embeddings.patch_embeddings.projection", "patch_embed.proj")
        name = name.replace("embeddings.norm", "patch_embed.norm")
        name = name.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")
        name = name.replace("attention.relative_position_bias.", "attn.")
        name = name.replace("attention.o_proj", "attn.proj")
        name = "norm" + name.removeprefix("layernorm") if name.startswith("layernorm") else name
        if ".attention.q_proj." in name:
            parts = [own[key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            state["visual_encoder." + name.replace("attention.q_proj", "attn.qkv")] = torch.cat(
                parts
            )
        elif "_proj." not in name:
            state[f"visual_encoder.{name}"] = tensor
    state["visual_encoder.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16)
    state["visual_encoder.layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    return state | head(tower.config.hidden_size, classes)


def head(width: int, classes: int) -> dict[str, Tensor]:
    shapes = {
        "image_proj.weight": (CONTEXT, width),
        "image_proj.bias": (CONTEXT,),
        "label_embed": (classes, EMBEDDING),
        "wordvec_proj.weight": (WIDTH, EMBEDDING),
        "wordvec_proj.bias": (WIDTH,),
        "fc.weight": (1, WIDTH),
        "fc.bias": (1,),
        "tag_encoder.encoder.layer.0.attention.self.query.weight": (3, 3),
        "text_decoder.cls.predictions.bias": (3,),
        "vision_multi.embeddings.word_embeddings.weight": (3, 3),
        "vision_multi.encoder.layer.0.attention.self.query.weight": (3, 3),
    }
    for layer in range(2):
        at = f"vision_multi.encoder.layer.{layer}."
        for part, size in (("query", WIDTH), ("key", CONTEXT), ("value", CONTEXT)):
            shapes[f"{at}crossattention.self.{part}.weight"] = (WIDTH, size)
            shapes[f"{at}crossattention.self.{part}.bias"] = (WIDTH,)
        for part, out, size in (
            ("crossattention.output", WIDTH, WIDTH),
            ("intermediate", INNER, WIDTH),
            ("output", WIDTH, INNER),
        ):
            shapes[f"{at}{part}.dense.weight"] = (out, size)
            shapes[f"{at}{part}.dense.bias"] = (out,)
            if part != "intermediate":
                shapes[f"{at}{part}.LayerNorm.weight"] = (WIDTH,)
                shapes[f"{at}{part}.LayerNorm.bias"] = (WIDTH,)
    generator = torch.Generator().manual_seed(1)
    return {k: torch.randn(shape, generator=generator) * 0.7 for k, shape in shapes.items()}


def slow_logits(tower: Any, state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """RAM's tagging, tag by tag and head by head, from the names of the released file."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean()
        scaled = centred / (centred.square().mean() + 1e-12).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    found = []
    for states in tower(pixel_values=pixels).last_hidden_state:
        seen = linear("image_proj", torch.cat([states.mean(dim=0, keepdim=True), states]))
        row = []
        for embedding in state["label_embed"]:
            x = linear("wordvec_proj", embedding).clamp(min=0)
            for layer in range(2):
                at = f"vision_multi.encoder.layer.{layer}"
                q, k, v = (
                    linear(f"{at}.crossattention.self.{part}", y)
                    for part, y in (("query", x), ("key", seen), ("value", seen))
                )
                mixed = []
                size = WIDTH // HEADS
                for h in range(HEADS):
                    cut = slice(h * size, (h + 1) * size)
                    weights = (k[:, cut] @ q[cut] / math.sqrt(size)).softmax(dim=0)
                    mixed.append(weights @ v[:, cut])
                x = norm(
                    f"{at}.crossattention.output.LayerNorm",
                    x + linear(f"{at}.crossattention.output.dense", torch.cat(mixed)),
                )
                inner = linear(f"{at}.intermediate.dense", x)
                inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
                x = norm(f"{at}.output.LayerNorm", x + linear(f"{at}.output.dense", inner))
            row.append(linear("fc", x))
        found.append(torch.cat(row))
    return torch.stack(found)


@pytest.fixture(scope="module")
def ram_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ram")
    state = released(swin())
    torch.save({"model": state, "epoch": 3}, folder / "ram.pth")
    (folder / "tags.txt").write_text("\n".join(TAGS))
    (folder / "thresholds.txt").write_text("".join(f"{0.1 * i}\n" for i in range(1, 6)))
    return folder


def ram(folder: Path, **changes: Any) -> RamTagger:
    block = {
        "family": "ram",
        "checkpoint": str(folder / "ram.pth"),
        "tags": str(folder / "tags.txt"),
        "thresholds": str(folder / "thresholds.txt"),
        "backbone": TOWER,
    }
    loaded = load_tagger(parse_tagger({**block, **changes}))
    assert isinstance(loaded, RamTagger)
    return loaded


@torch.no_grad()
def test_ram_reads_the_released_file_and_computes_its_equations(ram_files: Path) -> None:
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    found = ram(ram_files).logits(pixels)
    assert found.shape == (2, len(TAGS))
    torch.testing.assert_close(
        found, slow_logits(swin(), released(swin()), pixels), rtol=1e-4, atol=1e-4
    )


def test_lion_check_17_per_class_thresholds_in_list_order(ram_files: Path) -> None:
    tagger = ram(ram_files)
    assert torch.allclose(tagger.thresholds, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]))  # type: ignore[arg-type]
    logits = torch.tensor([[0.15, 0.15, 0.35, 0.35, 0.9], [0.05, 0.1, 0.1, 0.1, 0.1]]).logit()
    tagger.logits = lambda pixels: logits  # type: ignore[method-assign,assignment]
    features = tagger(torch.zeros(2, 3, 32, 32))
    assert features.names == (("airport", "bend", "cloud"), ())
    assert features.scores[0] == pytest.approx((0.15, 0.35, 0.9)) and features.scores[1] == ()
    assert tag_sentence(features.names[0], "hard").endswith("[airport, bend, cloud]. ")
    assert tag_sentence(features.names[1], "soft").endswith("following tags: []. ")
    one = ram(ram_files, threshold=0.8)
    one.logits = lambda pixels: logits  # type: ignore[method-assign,assignment]
    assert one(torch.zeros(2, 3, 32, 32)).names == (("cloud",), ())


@torch.no_grad()
def test_lion_check_17_4585_thresholds_on_the_models_own_scores(
    tmp_path: Path, parts: Path, pictures: list[Image.Image]
) -> None:
    """Every class just above or just below its own threshold; nothing is put in its place."""
    names = [f"tag {number}" for number in range(4585)]
    torch.save({"model": released(swin(), classes=4585)}, tmp_path / "ram.pth")
    (tmp_path / "tags.txt").write_text("\n".join(names))
    thresholds = tmp_path / "thresholds.txt"
    thresholds.write_text("0.5\n" * 4585)
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    own = ram(tmp_path).logits(pixels)[0].double().sigmoid()
    assert len(own.unique()) > 4000
    over = torch.rand(4585, generator=torch.Generator().manual_seed(3)) < 0.01
    bars = torch.where(over, own - 1e-4, own + 1e-4)
    thresholds.write_text("".join(f"{float(bar):.7f}\n" for bar in bars))
    found = ram(tmp_path)(pixels)
    expected = tuple(name for name, chosen in zip(names, over.tolist(), strict=True) if chosen)
    assert 20 < len(expected) < 80 and found.names == (expected,)
    assert f"[{', '.join(expected)}]. " in tag_sentence(found.names[0], "soft")
    thresholds.write_text("1.0\n" * 4585)
    nothing = ram(tmp_path)(pixels)
    assert nothing.names == ((),)
    block = lion_block(parts)
    model, processor = build_lion({**block, "bridge": {**block["bridge"], "tags": "soft"}})
    question = Turn("user", "<image>\nWhat is it?")
    prompt = processor.prompt([question], perceived=Perceived(tags=nothing.names))
    assert prompt.endswith("following tags: []. What is it?")
    inputs = processor.answer_inputs([prompt], pictures[:1])
    assert int((inputs["input_ids"] == processor.image_token_ids_by_role.slot).sum()) == 1
    assert model.eval().generate(**inputs, max_new_tokens=2).shape[0] == 1


def test_ram_takes_the_whole_image_at_384_with_imagenet_statistics(ram_files: Path) -> None:
    rule = ram(ram_files).transform
    assert rule.mean == (0.485, 0.456, 0.406) and rule.std == (0.229, 0.224, 0.225)
    assert rule.resample == "bilinear" and rule.size == (32, 32) and SWIN_L["image_size"] == 384
    wide = Image.new("RGB", (64, 20), (255, 0, 0))
    (features,) = tag_images(ram(ram_files), [wide])
    assert isinstance(features, TagFeatures) and len(features.names) == 1


def test_ram_at_real_size_has_the_released_shapes() -> None:
    with torch.device("meta"):
        tower: Any = SwinModel(SwinConfig(**SWIN_L), add_pooling_layer=False)
    own = {name: tuple(tensor.shape) for name, tensor in tower.state_dict().items()}
    assert own["encoder.layers.2.blocks.17.mlp.fc1.weight"] == (3072, 768)
    table = "attention.relative_position_bias.relative_position_bias_table"
    assert own[f"encoder.layers.0.blocks.0.{table}"] == (23 * 23, 6)
    assert own["layernorm.weight"] == (1536,)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("thresholds.txt", "0.5\n" * 4, "4 thresholds for 5 tags"),
        ("thresholds.txt", "0.5\n" * 4 + "high\n", "could not convert"),
        ("tags.txt", "\n".join(TAGS[:4]), "thresholds for 4 tags"),
    ],
)
def test_lists_of_the_wrong_length_are_refused(
    ram_files: Path, tmp_path: Path, file: str, text: str, message: str
) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        ram(ram_files, **{file.removesuffix(".txt"): str(tmp_path / file)})
    (tmp_path / "tags.txt").write_text("\n".join(TAGS[:4]))
    with pytest.raises(CheckpointError, match="holds 4 tags, the checkpoint 5"):
        ram(ram_files, tags=str(tmp_path / "tags.txt"), thresholds=None)


def test_other_files_are_no_ram(ram_files: Path, tmp_path: Path) -> None:
    torch.save({"model": {"label_embed": torch.zeros(5, 3)}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="is no checkpoint of RAM: 'image_proj"):
        ram(ram_files, checkpoint=str(tmp_path / "a.pth"))
    torch.save({"model": {"lm_head.weight": torch.zeros(5, 3)}}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="is no checkpoint of RAM: 'label_embed'"):
        ram(ram_files, checkpoint=str(tmp_path / "b.pth"))
    wrong = {**released(swin()), "visual_encoder.head.weight": torch.zeros(2, 2)}
    torch.save({"model": wrong}, tmp_path / "c.pth")
    with pytest.raises(
        CheckpointError, match=r"'visual_encoder\.head\.weight' is no tensor of RAM"
    ):
        ram(ram_files, checkpoint=str(tmp_path / "c.pth"))
    with pytest.raises(CheckpointError, match="does not fit RAM's tower"):
        ram(ram_files, backbone={**TOWER, "depths": [2, 4]})
    with pytest.raises(CheckpointError, match="needs the file of its tag list"):
        ram(ram_files, tags=None)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    names = dict(enumerate(("red", "green", "blue")))
    config = SwinConfig(patch_size=4, id2label=names, **TOWER)  # type: ignore[arg-type]
    SwinForImageClassification(config).save_pretrained(folder)
    return folder


@torch.no_grad()
def test_any_image_classifier_is_a_tagger(classifier: Path, pictures: list[Image.Image]) -> None:
    tagger = load_tagger(parse_tagger({"checkpoint": str(classifier), "threshold": 0.0}))
    found = list(tag_images(tagger, pictures, batch=2))
    assert [len(features.names) for features in found] == [2, 1]
    assert found[0].names[0] == ("red", "green", "blue")
    model: Any = SwinForImageClassification.from_pretrained(classifier)
    from manyeyes.model.pictures.pixels import to_pixels

    pixels = to_pixels(pictures[:1], tagger.transform, "squash", (0, 0, 0))
    expected = model(pixel_values=pixels).logits.sigmoid()[0]
    assert found[0].scores[0] == pytest.approx(tuple(expected.tolist()), abs=1e-5)
    assert not any(p.requires_grad for p in tagger.parameters()) and not tagger.training
    none = load_tagger(parse_tagger({"checkpoint": str(classifier), "threshold": 1.0}))
    (nothing,) = tag_images(none, pictures[:1])
    assert nothing.names == ((),)


def test_taggers_that_are_none(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no image classifier"):
        load_tagger(parse_tagger({"checkpoint": str(tiny.save_t5(tmp_path / "t5"))}))
    with pytest.raises(RecipeError, match=r"'rem' is not one of .*did you mean 'ram'"):
        parse_tagger({"family": "rem", "checkpoint": "x"})
    with pytest.raises(RecipeError, match=r"is not in 0\.\.1"):
        parse_tagger({"checkpoint": "x", "threshold": 65})
    with pytest.raises(RecipeError, match=r"tagger\.checkpoint"):
        parse_tagger({})
    (tmp_path / "names.txt").write_text("a\nb\n")
    block = {"checkpoint": str(classifier), "tags": str(tmp_path / "names.txt")}
    with pytest.raises(CheckpointError, match="2 names for 3 classes"):
        load_tagger(parse_tagger(block))
