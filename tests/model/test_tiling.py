"""Pictures in tiles through the whole model, over tiny parts: tiles of 16 pixels, 4 x 4 patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

import tiny
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.conversation.boxes import parse_boxes
from manyeyes.errors import CheckpointError, PartError, PlaceholderError, RecipeError, UsageError
from manyeyes.images.reading import fit_image
from manyeyes.images.tiling import cut_canvas, fit_canvas
from manyeyes.model.pictures.pixels import saved_rule, to_pixels
from manyeyes.records import GridFeatures, Sample, Turn
from manyeyes.training.packing import packed
from tile_reference import sampled, slow_join
from whole_model import Build, freeze, gradients

SIZES = {(16, 16): (1, 1), (40, 16): (1, 3), (30, 30): (2, 2), (20, 12): (1, 2), (10, 40): (3, 1)}
"""Sizes of pictures (width, height) and the grids that suit them, of four tiles of 16 pixels."""
TILING = {"most": 4, "thumbnail": True, "separator": "row"}
Pictures = list[Image.Image]


@pytest.fixture(scope="module")
def drawn() -> Pictures:
    """A picture of each size."""
    generator = torch.Generator().manual_seed(0)
    return [
        Image.fromarray(
            torch.randint(0, 256, (height, width, 3), generator=generator).byte().numpy()
        )
        for width, height in SIZES
    ]


def eyes(parts: Path, **dinov2: Any) -> list[dict[str, Any]]:
    clip, other = tiny.model_block(parts)["encoders"]
    return [clip, {**other, **dinov2}]


def one_level(parts: Path, **dinov2: Any) -> list[dict[str, Any]]:
    return [{**eye, "levels": [-2]} for eye in eyes(parts, **dinov2)]


def ask(processor: ManyEyesProcessor, *questions: str) -> list[str]:
    return [processor.prompt([Turn("user", f"<image>\n{q}")]) for q in questions]


def rows(processor: ManyEyesProcessor, pictures: Sequence[Image.Image]) -> list[dict[str, Tensor]]:
    return [
        processor.encode(
            Sample(str(i), ("x",), (Turn("user", f"<image>\nwhat{i}"), Turn("assistant", "a" * i))),
            [picture],
        )
        for i, picture in enumerate(pictures, 1)
    ]


def test_a_picture_has_as_many_tokens_as_its_grid(build: Build, drawn: Pictures) -> None:
    model, processor = build(tiling=TILING)
    inputs = processor.answer_inputs(ask(processor, *"abcde"), drawn)
    assert inputs["tile_grids"].tolist() == [list(grid) for grid in SIZES.values()]
    # 1 x 1: 16. 1 x 3: a thumbnail, 3 tiles, 4 rows that end. 2 x 2: 5 tiles, 8 rows.
    found = (inputs["input_ids"] == model.image_token_ids.image).sum(dim=1)
    assert found.tolist() == [16, 4 * 16 + 4, 5 * 16 + 8, 3 * 16 + 4, 4 * 16 + 12]
    assert inputs["pixel_values_clip"].shape == (1 + 4 + 5 + 3 + 4, 3, 16, 16)
    assert model.config.visual_tokens == 5 * 16 + 16  # four tiles one below the other
    assert processor.visual_tokens == 16


@torch.no_grad()
@pytest.mark.parametrize("separator", ["none", "row"])
def test_pictures_in_one_tile_are_seen_as_without_tiles(
    separator: str, build: Build, drawn: Pictures
) -> None:
    tiled = build(tiling={"most": 1, "separator": separator})
    plain = build()
    answers = []
    for model, processor in (tiled, plain):
        data = processor.collate(rows(processor, drawn))
        asked = processor.answer_inputs(ask(processor, *"abcde"), drawn)
        answers.append((model(**data).logits, model.generate(**asked, max_new_tokens=4)))
    assert torch.equal(answers[0][0], answers[1][0])
    assert torch.equal(answers[0][1], answers[1][1])


FUSIONS: dict[str, dict[str, Any]] = {
    "comm": {"name": "comm"},
    "merged": {"name": "comm", "merge_patches": 2, "join": "sum"},
    "concat": {"name": "concat"},
    "interleaved": {"name": "interleaved"},
    "sva": {"name": "sva", "width": 16, "heads": 2, "grid": [2, 2]},
}


@torch.no_grad()
@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("sees", ["tiles", "whole"])
def test_pictures_together_are_seen_as_each_alone(
    name: str, sees: str, build: Build, parts: Path, drawn: Pictures
) -> None:
    encoders = one_level(parts, sees=sees) if name != "comm" else eyes(parts, sees=sees)
    model, processor = build(encoders=encoders, fusion=FUSIONS[name], tiling=TILING)
    model.eval()
    together = processor.collate(made := rows(processor, drawn))
    every = model(**{k: v for k, v in together.items() if k != "labels"}).logits
    for place, row in enumerate(made):
        alone = model(**{k: v for k, v in processor.collate([row]).items() if k != "labels"})
        length = len(row["input_ids"])
        torch.testing.assert_close(every[place, :length], alone.logits[0], atol=2e-5, rtol=1e-4)


def slow_bundle(
    model: Any, processor: ManyEyesProcessor, picture: Image.Image, grid: tuple[int, int]
) -> list[dict[str, GridFeatures]]:
    """CLIP on every tile by itself; DINOv2 once, read place by place. One bundle a tile."""
    rules = {entry["name"]: saved_rule(entry) for entry in processor.encoders}
    canvas = fit_canvas(picture, (grid[1] * 16, grid[0] * 16), geometry="squash")
    tiles = [fit_image(picture, 16, geometry="squash"), *cut_canvas(canvas, 16)]
    whole = model.encoders["dinov2"](to_pixels([picture], rules["dinov2"], "squash", (0, 0, 0)))
    bundles = []
    for number, tile in enumerate(tiles):
        seen = model.encoders["clip"](to_pixels([tile], rules["clip"], "squash", (0, 0, 0)))
        cut = whole
        if number:
            row, column = divmod(number - 1, grid[1])
            levels = []
            for level in whole.levels:
                square = level[0].unflatten(0, (4, 4))
                read = [
                    sampled(
                        square,
                        (column + (x + 0.5) / 4) / grid[1],
                        (row + (y + 0.5) / 4) / grid[0],
                    )
                    for y in range(4)
                    for x in range(4)
                ]
                levels.append(torch.stack(read)[None])
            cut = GridFeatures(tuple(levels), whole.level_indices, (4, 4))
        bundles.append({"clip": seen, "dinov2": cut})
    return bundles


@torch.no_grad()
def test_two_encoders_against_a_slow_reference(build: Build, parts: Path, drawn: Pictures) -> None:
    """One sees tiles, the other the whole: tile by tile, place by place, token by token."""
    model, processor = build(encoders=eyes(parts, sees="whole"), tiling=TILING, geometry="squash")
    model.eval()
    torch.nn.init.normal_(model.bridge.row_end)
    pictures, grids = [drawn[2], drawn[0]], [(2, 2), (1, 1)]
    (text,) = [processor.prompt([Turn("user", "<image>and<image>?")])]
    inputs = processor.answer_inputs([text], pictures)
    rows = []
    for picture, grid in zip(pictures, grids, strict=True):
        bundles = slow_bundle(model, processor, picture, grid)
        bundles = bundles if grid != (1, 1) else bundles[:1]
        tokens = torch.cat([model.fusion(bundle).tokens for bundle in bundles])
        rows += slow_join(tokens, grid, model.tiles.layout, model.bridge.row_end)
    ids, special = inputs["input_ids"], model.image_token_ids
    left, spliced = iter(rows), []
    for token in ids[0].tolist():
        if token == special.image:
            spliced.append(next(left))
        elif token in (special.start, special.end):
            ends = (model.bridge.image_start, model.bridge.image_end)
            spliced.append(ends[token == special.end])
        else:
            spliced.append(model.get_input_embeddings()(torch.tensor(token)))
    assert next(left, None) is None
    expected = model.language_model(inputs_embeds=torch.stack(spliced)[None]).logits
    found = model(**inputs).logits
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_all_learns_and_one_tile_alone_gives_the_same_gradients(
    build: Build, parts: Path, drawn: Pictures
) -> None:
    model, processor = build(encoders=eyes(parts, sees="whole"), tiling=TILING)
    freeze(model, "encoders.")
    model.train()
    found = gradients(model, model(**processor.collate(rows(processor, drawn))).loss)
    assert float(found["bridge.row_end"].abs().sum()) > 0
    single = gradients(model, model(**processor.collate(rows(processor, drawn[:1]))).loss)
    text = Sample("t", (), (Turn("user", "hi"), Turn("assistant", "ho")))
    without = gradients(model, model(**processor.collate([processor.encode(text, [])])).loss)
    assert found.keys() == single.keys() == without.keys()


@torch.no_grad()
def test_packed_texts_are_those_of_a_batch(build: Build, drawn: Pictures) -> None:
    model, processor = build(tiling=TILING)
    made = rows(processor, drawn)
    batch, pack = processor.collate(made), packed(processor.collate)(made)
    assert pack["input_ids"].shape == (1, sum(len(row["input_ids"]) for row in made))
    tokens = [model.encode_images(**_visual(part)).tokens for part in (batch, pack)]
    assert torch.equal(*tokens)
    given = [model.encode_images(**_visual(part)) for part in (batch, pack)]
    one = model.embed(batch["input_ids"], given[0], batch["image_counts"])
    kept = [row[: len(part["input_ids"])] for row, part in zip(one, made, strict=True)]
    other = model.embed(pack["input_ids"], given[1], pack["image_counts"])
    assert torch.equal(torch.cat(kept), other[0])


def _visual(part: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in part.items() if k.startswith(("pixel_values_", "tile_"))}


def test_boxes_and_labels_are_those_of_the_original_picture(build: Build) -> None:
    question = Turn("user", "<image>\nWhere is the square?")
    answer = Turn("assistant", "At <boxes>.", boxes=(((3.0, 2.0, 9.0, 8.0),),))
    sample = Sample("s", ("picture.png",), (question, answer))
    said = []
    for tiling in (None, TILING):
        model, processor = build(tiling=tiling)
        row = processor.encode_text(sample, [(40, 16)])
        image = row["input_ids"] == model.image_token_ids.image
        said.append([row[key][~image] for key in ("input_ids", "labels")])
    assert all(torch.equal(a, b) for a, b in zip(*said, strict=True))


@torch.no_grad()
def test_counts_need_not_be_told_and_images_may_be_asked_about_twice(
    build: Build, drawn: Pictures
) -> None:
    model, processor = build(tiling=TILING)
    model.eval()
    prompts = [processor.prompt([Turn("user", t)]) for t in ("<image>a<image>?", "<image>b?")]
    inputs = processor.answer_inputs(prompts, drawn[1:4])
    without = {key: value for key, value in inputs.items() if key != "image_counts"}
    assert torch.equal(model(**inputs).logits, model(**without).logits)
    evidence = model.encode_images(**processor.pixels([drawn[3], drawn[1], drawn[2]]))
    again = processor.answer_inputs(
        prompts, images_encoded=True, image_sizes=[picture.size for picture in drawn[1:4]]
    )
    assert torch.equal(again["input_ids"], inputs["input_ids"])
    index = torch.tensor([1, 2, 0])
    shown = model.embed(again["input_ids"], evidence, again["image_counts"], index)
    expected = model.embed(inputs["input_ids"], model.encode_images(**_visual(dict(inputs))), None)
    torch.testing.assert_close(shown, expected)


def test_it_is_saved_and_answers_the_same(
    build: Build, parts: Path, drawn: Pictures, tmp_path: Path
) -> None:
    model, processor = build(encoders=eyes(parts, sees="whole"), tiling=TILING)
    torch.nn.init.normal_(model.bridge.row_end)
    model.eval().save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "m")
    reader = AutoProcessor.from_pretrained(tmp_path / "m")
    assert isinstance(again, ManyEyesForConditionalGeneration)
    inputs = processor.answer_inputs(ask(processor, *"abcde"), drawn)
    other = reader.answer_inputs(ask(reader, *"abcde"), drawn)
    assert inputs.keys() == other.keys()
    assert all(torch.equal(inputs[key], other[key]) for key in inputs)
    written = [each.generate(**inputs, max_new_tokens=5) for each in (model, again)]
    assert torch.equal(*written)
    file = tmp_path / "m" / "processor_config.json"
    file.write_text(file.read_text().replace('"most": 4', '"most": 3'))
    with pytest.raises(CheckpointError, match=r"tiling is .*'most': 3.*config.json makes it"):
        ManyEyesProcessor.from_pretrained(tmp_path / "m")


def test_chat_masks_cover_the_answers(build: Build, drawn: Pictures) -> None:
    _, processor = build(tiling=TILING)
    talks = [
        [
            {"role": "user", "content": [{"type": "image", "image": picture}, _said("what?")]},
            {"role": "assistant", "content": [_said(answer)]},
        ]
        for picture, answer in zip(drawn[1:3], ("red", "blue!"), strict=True)
    ]
    inputs: Any = processor.apply_chat_template(
        talks, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    for ids, mask, said in zip(
        inputs["input_ids"], inputs["assistant_masks"], ("red", "blue!"), strict=True
    ):
        assert said in processor.tokenizer.decode(ids[mask.bool()])


def _said(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def test_what_does_not_agree_is_named(build: Build, drawn: Pictures) -> None:
    model, processor = build(tiling=TILING)
    with pytest.raises(UsageError, match=r"sees pictures in tiles.*pass image_sizes"):
        processor.answer_inputs(ask(processor, "a"), images_encoded=True)
    inputs = processor.answer_inputs(ask(processor, "a"), drawn[1:2])
    other = processor.pixels(drawn[2:3])
    with pytest.raises(
        PlaceholderError, match=r"68 image tokens in the text, but its 1 image.* 88"
    ):
        model(**{**inputs, **other})
    with pytest.raises(PartError, match="'clip' saw 5 tiles, but tile_grids says 4"):
        model(**{**inputs, "pixel_values_clip": other["pixel_values_clip"]})
    del inputs["tile_grids"]
    with pytest.raises(PartError, match="pass tile_grids and tile_views"):
        model(**inputs)


def config(parts: Path, **changes: Any) -> ManyEyesConfig:
    block = {**tiny.model_block(parts), "tiling": TILING, **changes}
    return ManyEyesConfig(**block).resolve()


def test_what_cannot_see_tiles_is_refused_before_anything_is_read(parts: Path) -> None:
    clip, other = tiny.model_block(parts)["encoders"]
    cases: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
        "twice": ({"encoders": [{**clip, "tiles": 2}]}, RecipeError, "cuts every tile of `tiling`"),
        "nobody": ({"encoders": [{**clip, "sees": "whole"}]}, RecipeError, "no encoder sees tiles"),
        "sees": ({"encoders": [{**clip, "sees": "wole"}]}, RecipeError, "'wole' .*'whole'"),
        "without": (
            {"tiling": None, "encoders": [clip, {**other, "sees": "whole"}]},
            RecipeError,
            "dinov2.sees: without `tiling`",
        ),
        "most": ({"tiling": {"most": 0}}, RecipeError, "tiling.most: 0"),
        "queries": (
            {"encoders": [{**clip, "levels": [2]}], "fusion": {"name": "qformer"}},
            PartError,
            "tiling: fusion 'qformer' gives .* tokens that are no places",
        ),
        "layers": (
            {"encoders": [{**clip, "levels": [1, 2]}], "fusion": {"name": "deepstack"}},
            PartError,
            "tiling: fusion 'deepstack' gives tokens to . layers",
        ),
        "one after the other": (
            {"fusion": {"name": "comm", "join": "token"}},
            PartError,
            "tiling: fusion 'comm' gives 32 tokens that are no places",
        ),
        "encoder-decoder": (
            {"language": {"checkpoint": str(parts / "t5")}},
            PartError,
            "tiling: the prompts of an encoder-decoder",
        ),
        "too long": ({"max_tokens": 90}, RecipeError, "max_tokens: .*up to 96 visual tokens"),
        "longer than the model reads": (
            {"tiling": {"most": 200}},
            RecipeError,
            r"language: .*visual tokens, and a text holds 2048",
        ),
    }
    for name, (changes, kind, message) in cases.items():
        with pytest.raises(kind, match=message):
            config(parts, **changes)
            pytest.fail(name)


def test_a_long_strip_has_tiles_too(build: Build) -> None:
    model, processor = build(tiling=TILING)
    strip = Image.new("RGB", (10_000, 50), (255, 0, 0))
    assert processor.pixels([strip])["tile_grids"].tolist() == [[1, 4]]
    inputs = processor.answer_inputs(ask(processor, "a"), [strip])
    written = model.generate(**inputs, max_new_tokens=2)
    assert len(written) == 1


def test_learns_a_box_in_tiles_and_gives_it_back(build: Callable[..., Any], parts: Path) -> None:
    """Two pictures of different grids; the boxes that come back are those that were drawn."""
    torch.manual_seed(0)
    model, processor = build(encoders=eyes(parts, sees="whole"), tiling=TILING)
    freeze(model, "encoders.")
    boxes = {(40, 16): (4.0, 2.0, 12.0, 10.0), (20, 12): (10.0, 3.0, 18.0, 9.0)}
    pictures, samples = [], []
    for number, (size, box) in enumerate(boxes.items()):
        picture = Image.new("RGB", size, (20, 20, 20))
        picture.paste((250, 40 + 160 * number, 30), tuple(int(x) for x in box))  # type: ignore[arg-type]
        pictures.append(picture)
        turns = (Turn("user", "<image>\nwhere?"), Turn("assistant", "<boxes>", boxes=((box,),)))
        samples.append(Sample(str(number), ("x",), turns))
    rows = [processor.encode(s, [p]) for s, p in zip(samples, pictures, strict=True)]
    data = processor.collate(rows)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=1e-2)
    model.train()
    for _ in range(200):
        loss = model(**data).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if float(loss.detach()) < 0.01:
            break
    model.eval()
    inputs = processor.answer_inputs(ask(processor, "where?", "where?"), pictures)
    written = model.generate(**inputs, max_new_tokens=40, do_sample=False)
    new = written[:, inputs["input_ids"].shape[1] :]
    for text, (size, box) in zip(
        processor.tokenizer.batch_decode(new, skip_special_tokens=True), boxes.items(), strict=True
    ):
        ((found,),) = parse_boxes(text, style="shikra", width=size[0], height=size[1])
        assert found == pytest.approx(box, abs=0.02), text
