"""X-Former and Q-Former inside the whole model: x-former.md §10 over tiny parts."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import ViTMAEForPreTraining

import image_text_parts as tiny_parts
import tiny
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import DataError, PartError
from manyeyes.losses import OBJECTIVES
from manyeyes.losses.reconstruction import reconstruction_loss
from manyeyes.model.intermediates import read_back
from manyeyes.recipes import WeightSource
from manyeyes.records import FusionText, GridFeatures, Masking, Sample, Turn
from manyeyes.training.parts import assign, freeze
from manyeyes.training.saving.weights import take_weights

pytestmark = pytest.mark.long

FOUR = ("itc", "itm", "itg", "reconstruction")
FIRST: dict[str, Any] = {"text": "caption", "text_length": 24}
Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny clip, mae, llama, t5 and opt checkpoints."""
    folder = tiny.save_parts(tmp_path_factory.mktemp("parts"))
    tiny_parts.save_mae(folder / "mae")
    tiny_parts.save_opt(folder / "opt")
    tiny.save_t5(folder / "t5")
    return folder


def make(block: dict[str, Any]) -> Built:
    config = ManyEyesConfig(**block)
    processor = ManyEyesProcessor.from_config(config)
    return ManyEyesForConditionalGeneration.from_parts(config), processor


def xformer(home: Path, *, ratio: float = 0.5, idle: bool = True, **fusion: Any) -> Built:
    """The model of the first stage."""
    options = {**FIRST, "reconstruct": True, **fusion}
    block = tiny_parts.clip_block(home, "xformer", **options)
    block["encoders"][1] |= {"mask_ratio": ratio, "decoder": options["reconstruct"]}
    block["language"] = {**block["language"], "idle": idle}
    return make(block)


def pairs(
    processor: ManyEyesProcessor, pictures: list[Image.Image], count: int = 3
) -> dict[str, Tensor]:
    rows = [
        processor.encode(
            Sample(
                str(i),
                ("x",),
                (Turn("user", "<image>\nDescribe."), Turn("assistant", "A red dot" + "!?." * i)),
            ),
            [pictures[i % len(pictures)]],
        )
        for i in range(count)
    ]
    return processor.collate(rows)


def needs(*objectives: str) -> list[str]:
    return [need for name in objectives for need in OBJECTIVES[name].needs]


def gradients(model: torch.nn.Module) -> set[str]:
    """Names of parameters with a gradient that is not zero."""
    return {
        name
        for name, p in model.named_parameters()
        if p.grad is not None and float(p.grad.abs().max()) > 0
    }


# ---- the language model's side ---------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("kind", ["blip2", "instructblip"])
def test_xformer_check_02_language_logits_equal_transformers(
    home: Path, kind: str, tmp_path: Path
) -> None:
    reference = tiny_parts.save_blip2(tmp_path / "blip2", home / "opt", kind)
    text = "question" if kind == "instructblip" else "none"
    block = tiny_parts.clip_block(home, "xformer", mae_enabled=False, text=text, text_length=32)
    block["encoders"] = [
        {"name": "eva", "family": "eva_clip", "checkpoint": str(tmp_path / "blip2"),
         "levels": [-1], "keep_prefix": True}
    ]  # fmt: skip
    block["fusion"]["ln_vision_eps"] = 1e-6
    block["language"] = {"checkpoint": str(home / "opt")}
    model, processor = make(block)
    source = WeightSource(checkpoint=str(tmp_path / "blip2"), format=kind)  # type: ignore[arg-type]
    taken = take_weights(model, tmp_path / "blip2", source)
    own = {name for name, _ in model.named_parameters() if name.startswith("fusion.")}
    assert own == set(taken)

    pixels = torch.randn(2, 3, 16, 16)
    words = torch.randint(4, 200, (2, 5))
    count = processor.visual_tokens
    asked: dict[str, Tensor] = {}
    if kind == "instructblip":
        ids = torch.randint(4, 200, (2, 6))
        asked = {"question_ids": ids, "question_mask": torch.ones_like(ids)}
    image = torch.full((2, count), processor.image_token_ids_by_role.image)
    ours = model(
        input_ids=torch.cat([image, words], dim=1), pixel_values_eva=pixels, **asked
    ).logits
    image = torch.full((2, count), tiny_parts.IMAGE_TOKEN)
    more = {f"qformer_{k.replace('question_', '')}": v for k, v in asked.items()}
    more = {k.replace("_mask", "_attention_mask").replace("_ids", "_input_ids"): v
            for k, v in more.items()}  # fmt: skip
    theirs = reference(
        pixel_values=pixels, input_ids=torch.cat([image, words], dim=1), **more
    ).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("language", ["llama", "opt", "t5"])
def test_the_second_stage_learns_with_every_kind_of_language_model(
    home: Path, language: str, pictures: list[Image.Image]
) -> None:
    block = tiny_parts.clip_block(home, "xformer")
    block["language"] = {"checkpoint": str(home / language)}
    model, processor = make(block)
    freeze(model, assign(model, {"fusion": True}))
    model.train()
    batch = pairs(processor, pictures)
    optimizer = torch.optim.AdamW(model.fusion.parameters(), 1e-2)
    losses = []
    for _ in range(4):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    model.eval()
    prompt = processor.prompt([Turn("user", "<image>\nWhat?")])
    answer = model.generate(
        **processor.answer_inputs([prompt], pictures[:1]), max_new_tokens=3, do_sample=False
    )
    assert answer.shape[0] == 1


def test_the_question_reaches_the_qformer_in_training_and_in_answers(
    home: Path, pictures: list[Image.Image]
) -> None:
    block = tiny_parts.clip_block(home, text="question", text_length=32)
    model, processor = make(block)
    turns = (Turn("user", "<image>\nHow many?"), Turn("assistant", "two"))
    row = processor.encode(Sample("0", ("x",), turns), pictures[:1])
    batch = processor.collate([row, row])
    reader = processor.text_reader
    assert reader is not None
    assert reader.tokenizer.decode(batch["question_ids"][0]) == "<s>How many?</s>"
    prompt = processor.prompt(turns[:1])
    inputs = processor.answer_inputs([prompt], pictures[:1], questions=["How many?"])
    assert torch.equal(inputs["question_ids"], batch["question_ids"][:1])
    with torch.no_grad():
        two = processor.answer_inputs([prompt], pictures[:1], questions=["What colour?"])
        first, second = (
            model.encode_images(question, pixel_values_clip=inputs["pixel_values_clip"]).tokens
            for question in (texts(inputs), texts(two))
        )
    assert float((first - second).abs().max()) > 1e-4
    message = {"role": "user", "content": [{"type": "image", "image": pictures[0]},
                                           {"type": "text", "text": "How many?"}]}  # fmt: skip
    chat = processor.apply_chat_template([message], tokenize=True, return_dict=True)
    assert torch.equal(chat["question_ids"], batch["question_ids"][:1])
    assert model.generate(**chat, max_new_tokens=2, do_sample=False).shape[0] == 1


def texts(inputs: Any) -> FusionText:
    return FusionText(inputs["question_ids"], inputs["question_mask"])


def test_a_sample_without_image_trains_beside_one_with(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = make(tiny_parts.clip_block(home, text="question", text_length=32))
    freeze(model, assign(model, {"fusion": True}))
    model.train()
    blind = Sample("0", (), (Turn("user", "Hello"), Turn("assistant", "hi")))
    seeing = Sample("1", ("x",), (Turn("user", "<image>\nWhat?"), Turn("assistant", "a")))
    rows = [processor.encode(blind, []), processor.encode(seeing, pictures[:1])]
    batch = processor.collate(rows)
    assert batch["question_ids"].shape[0] == 1
    together = model(**batch).loss
    only = processor.collate(rows[:1])
    alone = model(**only).loss
    alone.backward()
    assert bool(torch.isfinite(together))
    assert model.fusion.query_tokens.grad is not None  # no process waits for it


def test_an_image_free_sample_has_no_place_among_pairs(
    home: Path, pictures: list[Image.Image]
) -> None:
    _, processor = xformer(home)
    blind = Sample("b7", (), (Turn("user", "Hello"), Turn("assistant", "hi")))
    with pytest.raises(DataError, match=r"'b7': .* need one image and its text, got 0 image"):
        processor.encode(blind, [])


def test_captions_are_cleaned_and_cut(home: Path, pictures: list[Image.Image]) -> None:
    _, processor = xformer(home)
    words = "A Red (dot) beside it!! " * 20
    sample = Sample("0", ("x",), (Turn("user", "<image>\n?"), Turn("assistant", words)))
    row = processor.encode(sample, pictures[:1])
    reader = processor.text_reader
    assert reader is not None
    assert len(row["caption_ids"]) == FIRST["text_length"]
    assert reader.tokenizer.decode(row["caption_ids"]) == "<s>a red dot beside it a </s>"
    assert int(row["caption_ids"][-1]) == reader.last


# ---- reconstruction --------------------------------------------------------------------------


def test_xformer_check_08_only_hidden_patches_count(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = xformer(home)
    model.train()
    trace = model(**pairs(processor, pictures), wanted=needs("reconstruction")).trace
    predicted, target, hidden = (trace[name].detach() for name in needs("reconstruction"))
    assert hidden.sum(dim=1).tolist() == [8.0] * 3
    loss = float(reconstruction_loss(predicted, target, hidden))
    visible = (1 - hidden)[..., None]
    assert float(reconstruction_loss(predicted + 5 * visible, target, hidden)) == loss
    assert float(reconstruction_loss(target + 5 * visible, target, hidden)) == 0.0
    assert float(reconstruction_loss(predicted + 5 * (1 - visible), target, hidden)) != loss


def local_permuted(found: GridFeatures, order: Tensor) -> GridFeatures:
    """Visible patches in another order, and the places that say where they belong."""
    assert found.masking is not None
    place = order.argsort()
    restore = found.masking.restore.clone()
    visible = restore < len(order)
    restore[visible] = place[restore[visible]]
    return replace(
        found,
        levels=tuple(level[:, order] for level in found.levels),
        masking=Masking(found.masking.hidden, restore),
    )


@torch.no_grad()
def test_xformer_check_07_permuted_patches_reconstruct_the_same(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = xformer(home)
    model.train()
    batch = pairs(processor, pictures)
    visual = {name: value for name, value in batch.items() if name.startswith("pixel_values_")}
    bundle = dict(model.encode(**visual))
    moved = {**bundle, "mae": local_permuted(bundle["mae"], torch.randperm(8))}
    assert not torch.equal(moved["mae"].levels[0], bundle["mae"].levels[0])
    read = [model.fusion(given) for given in (bundle, moved)]
    torch.testing.assert_close(read[1].tokens, read[0].tokens, rtol=0, atol=1e-5)
    traces = [
        read_back(model, evidence.trace, given, visual)
        for evidence, given in zip(read, (bundle, moved), strict=True)
    ]
    torch.testing.assert_close(
        traces[1]["predicted_patches"], traces[0]["predicted_patches"], rtol=0, atol=1e-5
    )
    first, second = (float(OBJECTIVES["reconstruction"](trace)) for trace in traces)
    assert second == pytest.approx(first, abs=1e-5)
    forgotten = {**moved, "mae": replace(moved["mae"], masking=bundle["mae"].masking)}
    wrong = read_back(model, read[1].trace, forgotten, visual)
    assert not torch.allclose(wrong["predicted_patches"], traces[0]["predicted_patches"], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("normalized", [False, True])
def test_xformer_check_08_equals_the_loss_of_transformers(
    home: Path, pictures: list[Image.Image], tmp_path: Path, normalized: bool
) -> None:
    """M' := M under given noise, which shuffles ``ids_restore``: the loss of the whole MAE."""
    shutil.copytree(home, tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "mae")
    tiny_parts.save_mae(tmp_path / "parts" / "mae", normalized=normalized)
    model, processor = xformer(tmp_path / "parts")
    model.fusion.dual.w_in, model.fusion.dual.w_out = nn.Identity(), nn.Identity()
    model.fusion.dual.layers[0].local.forward = lambda x, y, mask=None: x  # type: ignore[method-assign]
    model.fusion.dual.layers[0].query.forward = lambda x, y, mask=None: x  # type: ignore[method-assign]
    whole: Any = ViTMAEForPreTraining.from_pretrained(tmp_path / "parts" / "mae")
    whole.config.mask_ratio = whole.vit.config.mask_ratio = 0.5
    batch = pairs(processor, pictures)
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(1))
    expected = whole(pixel_values=batch["pixel_values_mae"], noise=noise)
    assert not torch.equal(expected.ids_restore, torch.arange(16).expand(3, -1))
    model.train()
    trace = model(**batch, noise_mae=noise, wanted=needs("reconstruction")).trace
    assert torch.equal(trace["hidden_patches"], expected.mask)
    torch.testing.assert_close(trace["predicted_patches"], expected.logits, rtol=1e-5, atol=1e-5)
    found = float(OBJECTIVES["reconstruction"](trace))
    assert found == pytest.approx(float(expected.loss), rel=1e-5)


def test_xformer_check_08_nothing_hidden_is_an_error(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = xformer(home, ratio=0.0)
    model.train()
    with pytest.raises(PartError, match=r"nothing is hidden from encoder 'mae'.* mask_ratio"):
        model(**pairs(processor, pictures), wanted=needs("reconstruction"))
    with pytest.raises(PartError, match="no patch is hidden"):
        reconstruction_loss(torch.ones(1, 2, 3), torch.ones(1, 2, 3), torch.zeros(1, 2))


def test_reconstruction_needs_a_fusion_that_gives_local_states(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = make(tiny_parts.clip_block(home, **FIRST))
    with pytest.raises(PartError, match="reconstruct: true"):
        model(**pairs(processor, pictures), wanted=needs("reconstruction"))


# ---- gradients -------------------------------------------------------------------------------


def first_stage(model: ManyEyesForConditionalGeneration) -> None:
    freeze(model, assign(model, {"fusion": True, "fusion.projector": False}))
    model.train()


def test_xformer_check_09_reconstruction_trains_what_it_passes(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = xformer(home)
    first_stage(model)
    trace = model(**pairs(processor, pictures), wanted=needs("reconstruction")).trace
    OBJECTIVES["reconstruction"](trace).backward()
    found = gradients(model)
    for part in ("dual.w_in", "dual.w_out", "dual.layers.0.local.cross", "ln_vision"):
        assert any(name.startswith(f"fusion.{part}") for name in found), part
    assert "fusion.query_tokens" in found
    assert any("crossattention" in name for name in found)
    assert not any(name.startswith("fusion.dual.layers.0.query") for name in found)
    assert all(p.grad is None for p in model.encoders.parameters())


def test_every_first_stage_parameter_learns_and_frozen_parts_rest(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = xformer(home)
    first_stage(model)
    assert not model.encoders["clip"].training and not model.encoders["mae"].decoder.training
    trace = model(**pairs(processor, pictures), wanted=needs(*FOUR)).trace
    total = sum(OBJECTIVES[name](trace) for name in FOUR)
    total.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.grad is None for n, p in model.named_parameters() if not p.requires_grad)


def test_xformer_check_09_second_stage(home: Path, pictures: list[Image.Image]) -> None:
    model, processor = make(tiny_parts.clip_block(home, "xformer"))
    freeze(model, assign(model, {"fusion": True}))
    model.train()
    names = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert names == {"query_tokens", "ln_vision", "qformer", "projector", "dual"}
    assert model.fusion.dual.w_out is None  # belongs to reconstruction
    model(**pairs(processor, pictures)).loss.backward()
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    still = {name for name in learning - gradients(model) if not name.endswith("key.bias")}
    assert still == set()  # a bias of all keys moves no attention
    assert all(p.grad is None for n, p in model.named_parameters() if n not in learning)


def test_the_first_stage_runs_no_language_model(home: Path, pictures: list[Image.Image]) -> None:
    model, processor = xformer(home, idle=False)
    model.language_model.forward = None  # type: ignore[assignment]
    assert set(needs("itc", "itm", "itg")) <= set(
        model(**pairs(processor, pictures), wanted=needs("itc", "itm", "itg")).trace
    )
    idle, processor = xformer(home)
    assert not any(name.startswith("language_model.") for name, _ in idle.named_parameters())
    with pytest.raises(PartError, match="built without its language model"):
        idle(**pairs(processor, pictures))


# ---- determinism, saving ---------------------------------------------------------------------


@torch.no_grad()
def test_xformer_check_14_determinism(home: Path, pictures: list[Image.Image]) -> None:
    model, processor = xformer(home)
    batch = pairs(processor, pictures)
    pixels = {name: value for name, value in batch.items() if name.startswith("pixel_values_")}
    first, second = (model.encode_images(**pixels).tokens for _ in range(2))
    assert torch.equal(first, second)  # nothing hidden in evaluation
    model.train()
    noise = torch.rand(3, 16)
    one, two = (model.encode_images(**pixels, noise_mae=noise).tokens for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, model.encode_images(**pixels, noise_mae=1 - noise).tokens)


@torch.no_grad()
def test_xformer_check_14_logits_and_losses_are_bit_equal(
    home: Path, pictures: list[Image.Image]
) -> None:
    writer, processor = xformer(home, ratio=0.0, idle=False, reconstruct=False, text="none")
    writer.eval()
    batch = pairs(processor, pictures)
    first, second = (writer(**batch) for _ in range(2))
    assert first.logits.shape[-1] == writer.config.text_config.vocab_size
    assert torch.equal(first.logits, second.logits) and torch.equal(first.loss, second.loss)
    model, processor = xformer(home, ratio=0.5)
    batch = pairs(processor, pictures)
    model.train()  # masks are drawn in training only; the negatives are drawn alike
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(2))
    traces = []
    for given in (noise, noise, 1 - noise):
        torch.manual_seed(0)
        traces.append(model(**batch, noise_mae=given, wanted=needs(*FOUR)).trace)
    for name in needs(*FOUR):
        assert torch.equal(traces[0][name], traces[1][name]), name
    moved = [name for name in needs(*FOUR) if not torch.equal(traces[0][name], traces[2][name])]
    assert {"match_logits", "predicted_patches", "hidden_patches"} <= set(moved)


def test_a_first_stage_checkpoint_comes_back_whole(
    home: Path, pictures: list[Image.Image], tmp_path: Path
) -> None:
    model, processor = xformer(home)
    first_stage(model)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path).eval()
    read = ManyEyesProcessor.from_pretrained(tmp_path)
    batch, same = pairs(processor, pictures), pairs(read, pictures)
    assert batch.keys() == same.keys() and all(torch.equal(batch[k], same[k]) for k in batch)
    model.eval()
    for name in needs("itc"):
        one, two = (m(**batch, wanted=needs("itc")).trace[name] for m in (model, again))
        assert torch.equal(one, two)
    parts = set(model.config.references)
    assert parts == {"encoders.clip.backbone", "encoders.mae.backbone", "encoders.mae.decoder"}


# ---- learning --------------------------------------------------------------------------------


def eight(processor: ManyEyesProcessor) -> dict[str, Tensor]:
    """Eight pictures of one colour each with a word for it."""
    names = ("red", "green", "blue", "white", "black", "cyan", "pink", "gold")
    rows = []
    for index, name in enumerate(names):
        generator = torch.Generator().manual_seed(index)
        pixels = torch.randint(0, 256, (4, 4, 3), generator=generator).byte().numpy()
        picture = Image.fromarray(pixels).resize((16, 16), Image.Resampling.NEAREST)
        turns = (Turn("user", "<image>\n?"), Turn("assistant", name))
        rows.append(processor.encode(Sample(name, ("x",), turns), [picture]))
    return processor.collate(rows)


def test_xformer_check_16_overfit(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "parts")
    _, processor = xformer(home)
    tiny_parts.teach_mae(tmp_path / "parts" / "mae", eight(processor)["pixel_values_mae"])
    model, processor = xformer(tmp_path / "parts", width=32, heads=4, ffn=64, dual_ffn="none")
    first_stage(model)
    batch = eight(processor)
    before = mean_losses(model, batch)
    overfit(model, batch, steps=250)
    after = mean_losses(model, batch)
    assert all(after[name] < 0.9 * before[name] for name in FOUR), (before, after)
    with torch.no_grad():
        assert [match_accuracy(model, batch) for _ in range(20)] == [1.0] * 20
        with_dual = reconstructions(model, batch)
        local = model.fusion.dual.layers[0].local
        local.forward = lambda x, y, mask=None: x  # the first cross-attention bypassed
        bypassed = reconstructions(model, batch)
        worse = [one > other for one, other in zip(bypassed, with_dual, strict=True)]
        assert all(worse), (with_dual, bypassed)


def overfit(model: ManyEyesForConditionalGeneration, batch: dict[str, Tensor], steps: int) -> None:
    """Minimise the sum of the four losses; the rate falls, so that the end is not noisy."""
    torch.manual_seed(0)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for _ in range(steps):
        trace = model(**batch, wanted=needs(*FOUR)).trace
        optimizer.zero_grad()
        torch.stack([OBJECTIVES[name](trace) for name in FOUR]).sum().backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def mean_losses(
    model: ManyEyesForConditionalGeneration, batch: dict[str, Tensor], draws: int = 20
) -> dict[str, float]:
    """Return each loss as the mean over ``draws`` fixed draws of masks and negatives."""
    totals = dict.fromkeys(FOUR, 0.0)
    for draw in range(draws):
        torch.manual_seed(draw)
        trace = model(**batch, wanted=needs(*FOUR)).trace
        for name in FOUR:
            totals[name] += float(OBJECTIVES[name](trace)) / draws
    return totals


def match_accuracy(model: ManyEyesForConditionalGeneration, batch: dict[str, Tensor]) -> float:
    trace = model(**batch, wanted=needs("itm")).trace
    right = trace["match_logits"].argmax(dim=-1) == trace["match_labels"]
    return float(right.float().mean())


def reconstructions(
    model: ManyEyesForConditionalGeneration, batch: dict[str, Tensor], draws: int = 10
) -> list[float]:
    """Return the loss under ``draws`` masks that were not trained on."""
    generator = torch.Generator().manual_seed(99)
    found = []
    for _ in range(draws):
        noise = torch.rand(8, 16, generator=generator)
        trace = model(**batch, noise_mae=noise, wanted=needs("reconstruction")).trace
        found.append(float(OBJECTIVES["reconstruction"](trace)))
    return found


def test_xformer_check_16_writes_what_it_learnt(home: Path) -> None:
    torch.manual_seed(0)
    model, processor = make(tiny_parts.clip_block(home, **FIRST, width=32, heads=4, ffn=64))
    first_stage(model)
    batch = eight(processor)
    optimizer = torch.optim.AdamW(model.fusion.parameters(), 5e-3, weight_decay=0.0)
    for _ in range(120):
        loss = OBJECTIVES["itg"](model(**batch, wanted=needs("itg")).trace)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert math.isfinite(float(loss.detach()))
    model.eval()
    reader = processor.text_reader
    assert reader is not None
    bundle = model.encode(pixel_values_clip=batch["pixel_values_clip"])
    written = [reader.tokenizer.decode(row) for row in model.fusion.write(bundle, last=reader.last)]
    right = sum(
        a == b
        for a, b in zip(
            written,
            ("red", "green", "blue", "white", "black", "cyan", "pink", "gold"),
            strict=True,
        )
    )
    assert right >= 7, written


def test_xformer_check_17_reconstruction_in_the_second_stage(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = xformer(home, idle=False, text="none")
    freeze(model, assign(model, {"fusion": True}))
    model.train()
    output = model(**pairs(processor, pictures), wanted=needs("next_token", "reconstruction"))
    assert set(output.trace) >= set(needs("next_token", "reconstruction"))
    (output.loss + OBJECTIVES["reconstruction"](output.trace)).backward()
    assert model.fusion.dual.w_out.weight.grad is not None
