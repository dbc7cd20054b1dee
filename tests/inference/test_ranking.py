"""Candidates ranked over a shared prompt: equal to scoring each alone, and read only once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import DataError
from manyeyes.inference.ranking import Likelihood, ShownImages, rank_candidates, ranked_question
from manyeyes.records import IGNORE, Sample, Turn, VisualEvidence

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]
Build = Callable[..., Built]

QUESTIONS = (
    ("Which?", ("a", "two words", "a far longer candidate than any other", "ab")),
    ("What colour is the thing on the left?", ("red", "blue")),
    ("Is it?", ("yes", "no", "yes and no")),
)
KINDS = ("llama", "t5")


def model_of(build: Build, parts: Path, language: str, **changes: Any) -> Built:
    model, processor = build(language={"checkpoint": str(parts / language)}, **changes)
    with torch.no_grad():
        for parameter in model.fusion.parameters():
            parameter.mul_(5)  # so that the picture matters
    return model, processor


def alone(built: Built, question: str, candidate: str, picture: Image.Image | None) -> Likelihood:
    """One full forward over the whole conversation, as training runs it."""
    model, processor = built
    text = question if picture is None else f"<image>\n{question}"
    sample = Sample("", (), (Turn("user", text), Turn("assistant", candidate)))
    pictures = [] if picture is None else [picture]
    batch = processor.collate([processor.encode(sample, pictures)])
    with torch.no_grad():
        output = model(**batch)
    labels = batch["labels"][batch["labels"] != IGNORE]
    scored = output.logits.log_softmax(-1).gather(-1, labels[:, None]).sum()
    return Likelihood(float(scored), len(labels))


def ranked(
    built: Built, pictures: Sequence[Image.Image] | None, *, batch_size: int = 64
) -> list[list[Likelihood]]:
    model, processor = built
    lead = "" if pictures is None else "<image>\n"
    questions = [
        ranked_question(processor, Turn("user", lead + text), candidates)
        for text, candidates in QUESTIONS
    ]
    shown = None
    if pictures is not None:
        evidence = model.encode_images(**processor.pixels(pictures))
        shown = ShownImages(evidence, torch.tensor([2, 0, 1]))
    return rank_candidates(model, questions, shown, batch_size=batch_size)


def assert_equal(found: list[list[Likelihood]], expected: list[list[Likelihood]]) -> None:
    assert [[one.tokens for one in row] for row in found] == [
        [one.tokens for one in row] for row in expected
    ]
    for row, wanted in zip(found, expected, strict=True):
        totals = torch.tensor([one.total for one in row])
        torch.testing.assert_close(
            totals, torch.tensor([one.total for one in wanted]), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("language", KINDS)
@pytest.mark.parametrize("style", ["vicuna_v1.1", "chat"])
def test_equals_scoring_each_candidate_alone(
    build: Build, parts: Path, pictures: list[Image.Image], language: str, style: str
) -> None:
    built = model_of(build, parts, language, prompt_style=style)
    chosen = [pictures[index] for index in (2, 0, 1)]
    expected = [
        [alone(built, text, candidate, picture) for candidate in candidates]
        for (text, candidates), picture in zip(QUESTIONS, chosen, strict=True)
    ]
    assert_equal(ranked(built, pictures), expected)
    assert len({one.tokens for one in expected[0]}) == 4


@pytest.mark.parametrize("language", KINDS)
def test_equals_scoring_alone_without_images(build: Build, parts: Path, language: str) -> None:
    built = model_of(build, parts, language)
    expected = [[alone(built, q, c, None) for c in candidates] for q, candidates in QUESTIONS]
    assert_equal(ranked(built, None), expected)


@pytest.mark.parametrize("language", KINDS)
def test_batches_and_padding_change_nothing(
    build: Build, parts: Path, pictures: list[Image.Image], language: str
) -> None:
    """Prompts padded beside longer ones, candidates beside longer ones, or everything alone."""
    built = model_of(build, parts, language)
    together = ranked(built, pictures)
    for batch_size in (1, 2, 4):
        assert_equal(ranked(built, pictures, batch_size=batch_size), together)


@pytest.mark.parametrize("language", KINDS)
def test_the_image_matters(
    build: Build, parts: Path, pictures: list[Image.Image], language: str
) -> None:
    built = model_of(build, parts, language)
    shown, swapped = ranked(built, pictures), ranked(built, pictures[::-1])
    assert abs(shown[0][0].total - swapped[0][0].total) > 1e-3


def counting(module: torch.nn.Module, rows: list[int]) -> None:
    """Record the batch size of every call of a module."""

    def record(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = (*args, kwargs.get("inputs_embeds"), kwargs.get("input_ids"))
        rows.append(next(len(tensor) for tensor in given if tensor is not None))

    module.register_forward_pre_hook(record, with_kwargs=True)


def test_image_and_prompt_are_read_once(
    build: Build, parts: Path, pictures: list[Image.Image]
) -> None:
    """Nine candidates of three questions: one call for the prompts, one for the continuations."""
    decoder = model_of(build, parts, "llama")
    seen, read = [], []
    counting(decoder[0].encoders["clip"], seen)
    counting(decoder[0].language_model, read)
    ranked(decoder, pictures)
    assert (seen, read) == ([3], [3, 9])

    encoder_decoder = model_of(build, parts, "t5")
    encoded, decoded = [], []
    counting(encoder_decoder[0].language_model.get_encoder(), encoded)
    counting(encoder_decoder[0].language_model.get_decoder(), decoded)
    ranked(encoder_decoder, pictures)
    assert (encoded, decoded) == ([3], [9])
    encoded.clear(), decoded.clear()
    ranked(encoder_decoder, pictures, batch_size=4)
    # two questions have 5 candidates together, more than a batch: each prompt is read alone
    assert encoded == [1, 1, 1] and sum(decoded) == 9


def test_adapter_prompts_reach_every_candidate(
    build: Build, parts: Path, pictures: list[Image.Image]
) -> None:
    """Evidence that attention reads must follow the candidates' own question."""
    model, processor = build(
        encoders=[
            {"name": "clip", "family": "clip", "checkpoint": str(parts / "clip"), "levels": [3]}
        ],
        fusion={"name": "llama_adapter_v2"},
        bridge={"name": "adapter_prompts"},
    )
    with torch.no_grad():
        model.bridge.gates.fill_(1.0)
    built = (model, processor)
    expected = [
        [alone(built, text, candidate, picture) for candidate in candidates]
        for (text, candidates), picture in zip(
            QUESTIONS, [pictures[index] for index in (2, 0, 1)], strict=True
        )
    ]
    assert_equal(ranked(built, pictures), expected)
    assert_equal(ranked(built, pictures, batch_size=2), expected)


def test_mean_is_per_token() -> None:
    assert Likelihood(-6.0, 4).mean == -1.5


def test_questions_that_cannot_be_ranked_are_refused(build: Build) -> None:
    _, processor = build()
    with pytest.raises(DataError, match="no candidates"):
        ranked_question(processor, Turn("user", "Which?"), ())
    row = ranked_question(processor, Turn("user", "Which?"), ("a",))
    processor.max_length = len(row.prompt) + 20
    ranked_question(processor, Turn("user", "Which?"), ("a",))
    with pytest.raises(DataError, match=r"'bbb.*' does not fit max_length"):
        ranked_question(processor, Turn("user", "Which?"), ("a", "b" * 60))


def test_boxes_in_a_question_are_written(build: Build) -> None:
    _, processor = build()
    turn = Turn("user", "<image>\nWhat is in <boxes>?", (((0.0, 0.0, 8.0, 8.0),),))
    row = ranked_question(processor, turn, ("a", "b"), image_sizes=[(16, 16)])
    text = processor.tokenizer.decode(row.prompt)
    assert "[0.000,0.000,0.500,0.500]" in text


def test_evidence_is_left_as_it_was(build: Build, parts: Path, pictures: list[Image.Image]) -> None:
    """The prompt's cache must survive its continuations: the same answer twice."""
    model, processor = model_of(build, parts, "llama")
    row = ranked_question(processor, Turn("user", "<image>\nWhich?"), ("one", "two", "one"))
    evidence = model.encode_images(**processor.pixels(pictures[:1]))
    assert isinstance(evidence, VisualEvidence)
    (found,) = rank_candidates(model, [row], ShownImages(evidence, torch.tensor([0])), batch_size=1)
    assert found[0].total == pytest.approx(found[2].total, abs=1e-5)
    assert found[0].total != found[1].total


def test_encoder_decoder_questions_are_not_cut_to_the_training_length(
    build: Build, parts: Path
) -> None:
    question, candidates = Turn("user", "x" * 100 + " Which?"), ("y" * 80, "y" * 81)
    _, short = model_of(build, parts, "t5", prompt_style="plain", max_tokens=40)
    _, whole = model_of(build, parts, "t5", prompt_style="plain")
    cut, uncut = (ranked_question(made, question, candidates) for made in (short, whole))
    assert torch.equal(cut.prompt, uncut.prompt)
    assert [len(c.ids) for c in cut.candidates] == [len(c.ids) for c in uncut.candidates]
