"""Pictures in tiles where a model answers: in groups, in chats, behind the server, masked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import tiny
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.inference.masks import LONE_MASKS, MASKS, MaskedPredictor
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.inference.ranking import ShownImages, rank_candidates, ranked_question
from manyeyes.inference.seen_images import Sight
from manyeyes.records import Turn
from manyeyes.serving.chat import Conversation
from manyeyes.study.explanation.explain import explain

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]
SIZES = ((16, 16), (40, 16), (30, 30))


@pytest.fixture(scope="module")
def built(build: Callable[..., Built], parts: Path) -> Built:
    """CLIP sees tiles, DINOv2 the whole."""
    clip, dinov2 = tiny.model_block(parts)["encoders"]
    model, processor = build(encoders=[clip, {**dinov2, "sees": "whole"}], tiling={"most": 4})
    model.eval()
    return model, processor


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, random = tmp_path_factory.mktemp("files"), torch.Generator().manual_seed(0)
    found = []
    for number, (width, height) in enumerate(SIZES):
        pixels = torch.randint(0, 256, (height, width, 3), generator=random).byte().numpy()
        Image.fromarray(pixels).save(folder / f"{number}.png")
        found.append(folder / f"{number}.png")
    return found


def item(file: Path, prompt: str, *more: Path) -> Item:
    others = tuple(map(str, more))
    # a size that the annotation has wrong must not decide how many tokens a picture has
    return Item(
        f"{file.stem}-{prompt}", str(file), prompt, (), file.stem, size=(5, 5), more_images=others
    )


def alone(built: Built, one: Item, tokens: int) -> str:
    model, processor = built
    prompt = processor.prompt([Turn("user", "<image>\n" * len(one.images) + one.prompt)])
    pictures = [Image.open(path).convert("RGB") for path in one.images]
    inputs = processor.answer_inputs([prompt], pictures)
    written = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    new = written[0, inputs["input_ids"].shape[1] :]
    return str(processor.tokenizer.decode(new, skip_special_tokens=True))


def test_answers_are_those_of_one_plain_call_each(built: Built, files: list[Path]) -> None:
    """Several questions on one picture share its beginning; one is about two pictures."""
    predictor = ModelPredictor(*built, max_new_tokens={"short": 5})
    items = [item(file, f"What{'?' * n}") for n, file in enumerate(files)]
    items += [item(files[1], "And this"), item(files[2], "Both", files[1])]
    predictor.check_lengths(items)
    answers = predictor.answer(items, with_images=True)
    assert answers == [alone(built, one, 5) for one in items]
    blind = predictor.answer(items, with_images=False)
    assert len(blind) == len(items)


def test_candidates_are_as_likely_as_one_by_one(built: Built, files: list[Path]) -> None:
    model, processor = built
    predictor = ModelPredictor(model, processor)
    items = [replace(item(file, "What?"), candidates=("a", "bb")) for file in files]
    found = predictor.rank(items, with_images=True)
    for one, likelihoods in zip(items, found, strict=True):
        picture = Image.open(one.image).convert("RGB")
        with torch.no_grad():
            evidence = model.encode_images(**processor.pixels([picture]))
        question = ranked_question(
            processor,
            Turn("user", "<image>\nWhat?"),
            one.candidates,
            lengths=processor.image_lengths([picture.size]),
        )
        (expected,) = rank_candidates(
            model, [question], ShownImages(evidence, torch.tensor([0])), batch_size=4
        )
        for a, b in zip(likelihoods, expected, strict=True):
            assert a.total == pytest.approx(b.total, abs=1e-4)


def test_a_chat_about_two_pictures(built: Built, files: list[Path]) -> None:
    model, processor = built
    talk = Conversation(model, processor, max_new_tokens=6)
    first = talk.show(files[1])
    text = talk.ask("what?").text
    second = talk.show(files[2])
    answer = talk.ask("and this?").text
    turns = [
        Turn("user", "<image>\nwhat?"),
        Turn("assistant", text),
        Turn("user", "<image>\nand this?"),
    ]
    inputs = processor.answer_inputs([processor.prompt(turns)], [first, second])
    written = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    new = written[0, inputs["input_ids"].shape[1] :]
    assert answer == processor.tokenizer.decode(new, skip_special_tokens=True).strip()


def test_a_seen_picture_holds_its_own_tiles_alone(built: Built, files: list[Path]) -> None:
    model, processor = built
    pictures = [Image.open(file).convert("RGB") for file in files]
    sight = Sight(model, processor)
    seen = sight.see(pictures)
    shown = sight.shown([seen[2], seen[0], seen[2]], ["?"] * 3)
    assert shown is not None and shown.evidence.grids is not None
    assert shown.evidence.grids.tolist() == [[2, 2], [1, 1]] and shown.rows.tolist() == [0, 1, 0]
    with torch.no_grad():
        every = model.encode_images(**processor.pixels([pictures[2], pictures[0]]))
    torch.testing.assert_close(shown.evidence.tokens, every.tokens)


def test_the_server_answers_as_generate_does(built: Built, files: list[Path]) -> None:
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from served import Server, ask, data_url

    server = Server(*built)
    with TestClient(server.app, base_url="http://localhost") as client:
        for file in (files[1], files[2], files[1]):
            url = data_url(Image.open(file).convert("RGB"))
            body = ask("What?", url, max_tokens=5, temperature=0)
            reply = client.post("/v1/chat/completions", json=body).json()
            said = reply["choices"][0]["message"]["content"]
            assert said == alone(built, item(file, "What?"), 5)
            rows = {files[1]: 4 * 16 + 4, files[2]: 5 * 16 + 8}[file]
            prompt = built[1].prompt([Turn("user", "<image>\nWhat?")])
            text = len(built[1].tokenizer(prompt)["input_ids"])
            assert reply["usage"]["prompt_tokens"] == text - 1 + rows + 2
    assert not server.faults


def test_an_explanation_masks_what_sees_tiles_too(built: Built, files: list[Path]) -> None:
    found = explain(ModelPredictor(*built, max_new_tokens={"short": 4}), files[1], "What?")
    assert found.size == (40, 16) and found.maps == ()
    parts = {(asked.part, asked.how) for asked in found.changed}
    assert parts == {
        (part, how) for part in ("clip", "dinov2", "clip + dinov2") for how in LONE_MASKS
    }


def test_another_picture_cannot_stand_in_for_tiles(built: Built, files: list[Path]) -> None:
    model, processor = built
    predictor = ModelPredictor(model, processor, max_new_tokens={"short": 4})
    for name, kind in MASKS.items():
        mask = kind(predictor, [str(file) for file in files])
        suited = [e for e in ("clip", "dinov2") if mask.suits(model.encoders[e])]
        assert suited == (["dinov2"] if name == "shuffle" else ["clip", "dinov2"])
        masked = MaskedPredictor(predictor, suited, mask)
        (answer,) = masked.answer([item(files[1], "What?")], with_images=True)
        assert isinstance(answer, str)
