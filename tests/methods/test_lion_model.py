"""LION as a whole model over tiny parts: routes, stages, gradients, candidates (LION §10)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForSeq2SeqLM

from lion_parts import Built, build_lion, lion_block, stir
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.conversation.task_types import IMAGE, REGION, route_of, routes_of
from manyeyes.errors import PartError, UsageError
from manyeyes.inference.ranking import ShownImages, rank_candidates, ranked_question
from manyeyes.recipes import WeightSource, load_recipe
from manyeyes.records import Sample, Turn
from manyeyes.training.saving.weights import take_weights
from manyeyes.training.trainable import assign, freeze

MERGE = {"bridge.mixture.adapters.0": "bridge.mixture.adapters.1"}
QUESTIONS = ("What is it?", "Find the cup.", "Is it red?", "Give its box.")
ROUTES = [1, 0, 1, 0]


def lion(parts: Path, language: str = "t5", *, stirred: bool = True, **changes: Any) -> Built:
    model, processor = build_lion(lion_block(parts, language, **changes))
    if stirred:
        stir(model.bridge)
        stir(model.fusion, scale=0.1)
    return model, processor


def inputs(
    processor: ManyEyesProcessor, pictures: list[Image.Image], **more: Any
) -> dict[str, Any]:
    prompts = [processor.prompt([Turn("user", f"<image>\n{q}")]) for q in QUESTIONS]
    images = [pictures[i % len(pictures)] for i in range(len(prompts))]
    return dict(processor.answer_inputs(prompts, images, questions=QUESTIONS, **more))


def rows(processor: ManyEyesProcessor, pictures: list[Image.Image], task: str) -> Any:
    """A batch of one kind of task: colours and boxes that belong to the pictures."""
    answers = {IMAGE: ("red", "blue"), REGION: ("[0.1]", "[0.9]")}[task]
    encoded = [
        processor.encode(
            Sample(str(i), ("x",), (Turn("user", "<image>\nQ?"), Turn("assistant", a)), task),
            [pictures[i]],
        )
        for i, a in enumerate(answers)
    ]
    return processor.collate(encoded)


@pytest.mark.parametrize(
    ("task", "question", "route"),
    [
        ("region_level", "What is it?", 0),
        ("rec", "What is it?", 0),
        ("grounding", "What is it?", 0),
        ("image_level", "Give its box.", 1),
        (None, "What is it?", 1),
        ("something new", "What is in the box?", 1),
        (None, "Where is the cup? Give its box.", 0),
        ("vqa", "What is at [0.100,0.200,0.300,0.400]?", 0),
        (None, "Can you locate the cup and let me know its coordinates?", 0),
        (None, "Find the large circle.", 0),
        (None, "Where can one find milk?", 1),
        (None, "Is the box [of wood] open?", 1),
    ],
)
def test_lion_check_14_the_route_of_a_sample(task: str | None, question: str, route: int) -> None:
    assert route_of(task, question) == route


def test_lion_check_14_lists_are_taken_per_sample_and_unknown_types_refused() -> None:
    assert routes_of([REGION, IMAGE, None], ["?", "?", "Find it."]) == [0, 1, 0]
    assert routes_of(REGION, ["?", "?"]) == [0, 0]
    with pytest.raises(UsageError, match=r"'region_levl' .did you mean 'region_level'"):
        routes_of("region_levl", ["?"])
    with pytest.raises(UsageError, match="1 tasks for 2 questions"):
        routes_of([REGION], ["?", "?"])


@torch.no_grad()
@pytest.mark.parametrize("language", ["t5", "llama"])
@pytest.mark.parametrize("how", [{}, {"num_beams": 3, "num_return_sequences": 2}])
def test_lion_check_14_a_mixed_batch_equals_its_samples_alone(
    parts: Path, pictures: list[Image.Image], language: str, how: dict[str, Any]
) -> None:
    model, processor = lion(parts, language)
    batch = inputs(processor, pictures)
    assert batch["routes"].tolist() == ROUTES
    arguments = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, **how}
    together = model.generate(**batch, **arguments)
    for row, task in enumerate((IMAGE, REGION, IMAGE, REGION)):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        copies = how.get("num_return_sequences", 1)
        answer = model.generate(**alone, **arguments)
        assert torch.equal(together[row * copies : (row + 1) * copies], answer)
        assert torch.equal(model.generate(**alone, task=task, **arguments), answer)
    wrong = {**batch, "routes": 1 - batch["routes"]}
    first = model(**batch, **_decoder(language)).logits
    other = model(**wrong, **_decoder(language)).logits
    assert not torch.allclose(first, other, atol=1e-3)


def _decoder(language: str) -> dict[str, Any]:
    ids = torch.zeros(4, 1, dtype=torch.long)
    return {"decoder_input_ids": ids} if language == "t5" else {}


def test_lion_check_01_the_encoder_reads_289_tokens_in_small(
    parts: Path, pictures: list[Image.Image]
) -> None:
    for visual_input, tokens in (("all", 4 + 17), ("qformer", 4), ("aggregator", 17)):
        count = 2 if visual_input == "all" else 1
        model, processor = lion(
            parts, fusion={"visual_input": visual_input}, adapters={"count": count}
        )
        seen: list[Any] = []
        model.language_model.encoder.register_forward_pre_hook(
            lambda _, __, kwargs, seen=seen: seen.append(kwargs), with_kwargs=True
        )
        batch = rows(processor, pictures, IMAGE)
        text = len(processor.tokenizer("\nQ?")["input_ids"])
        model(**batch)
        assert seen[0]["inputs_embeds"].shape == (2, tokens + text, 32)
        assert seen[0]["attention_mask"].shape == (2, tokens + text)


@torch.no_grad()
@pytest.mark.parametrize("route", [0, 1])
def test_lion_check_03_fresh_adapters_leave_the_t5_of_the_file(parts: Path, route: int) -> None:
    """FlanT5's head is not its embedding; logits equal those of the file without any adapter."""
    alone = AutoModelForSeq2SeqLM.from_pretrained(parts / "t5").eval()
    assert not torch.allclose(alone.lm_head.weight, alone.shared.weight, atol=0.1)
    model, _ = lion(parts, stirred=False)
    given: dict[str, Any] = {
        "inputs_embeds": torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0)),
        "labels": torch.tensor([[4, 5, 6], [7, 8, 9]]),
    }
    found = model(**given, routes=torch.full((2,), route)).logits
    expected = alone(**given).logits.flatten(0, 1)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) == 0.0


def test_lion_check_10_what_learns_in_a_step(parts: Path, pictures: list[Image.Image]) -> None:
    block = lion_block(parts)
    block["bridge"]["tags"] = "soft"
    model, processor = build_lion(block)
    freeze(model, assign(model, {"fusion": True, "bridge": True}))
    before = {n: x.clone() for n, x in model.state_dict().items()}
    sample = Sample(
        "a",
        ("x",),
        (Turn("user", "<image>\nQ?"), Turn("assistant", "red")),
        tags=(("cup", "tree"),),
    )
    batch = processor.collate([processor.encode(sample, [pictures[0]])])
    model.train()
    model(**batch).loss.backward()
    grads = {n: p.grad for n, p in model.named_parameters()}
    assert float(grads["bridge.soft_prompt.vector"].abs().sum()) > 0  # type: ignore[union-attr]
    frozen = [n for n in grads if n.startswith(("language_model.", "encoders."))]
    assert frozen and all(grads[n] is None for n in frozen)
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1).step()
    after = model.state_dict()
    assert all(torch.equal(after[n], before[n]) for n in after if n in frozen)
    assert not torch.equal(after["bridge.soft_prompt.vector"], before["bridge.soft_prompt.vector"])


def one_kind(parts: Path, visual_input: str, seed: int, folder: Path) -> Any:
    """A trained stage of one kind of task, saved."""
    model, _ = build_lion(
        lion_block(parts, fusion={"visual_input": visual_input}, adapters={"count": 1})
    )
    stir(model.bridge, seed=seed)
    stir(model.fusion, seed=seed, scale=0.1)
    model.save_pretrained(folder)
    return model


@torch.no_grad()
def test_lion_check_15_merging_the_stages(
    parts: Path, pictures: list[Image.Image], tmp_path: Path
) -> None:
    image = one_kind(parts, "qformer", 1, tmp_path / "image")
    region = one_kind(parts, "aggregator", 2, tmp_path / "region")
    model, processor = lion(parts, stirred=False)
    take_weights(model, tmp_path / "image", WeightSource(stage="image", rename=MERGE))
    take_weights(model, tmp_path / "region", WeightSource(stage="region"))
    own = model.state_dict()
    for stage, number in ((image, 1), (region, 0)):
        for name, tensor in stage.bridge.state_dict().items():
            there = "bridge." + name.replace("adapters.0", f"adapters.{number}")
            assert torch.equal(own[there], tensor)
    assert torch.equal(own["fusion.query_tokens"], image.fusion.query_tokens)
    assert torch.equal(
        own["fusion.aggregator_proj.0.weight"], region.fusion.aggregator_proj[0].weight
    )
    batch = rows(processor, pictures, IMAGE)
    embeddings = torch.randn(2, 5, 32)
    for stage, route in ((image, 1), (region, 0)):
        routes = torch.full((2,), route)
        found = model(inputs_embeds=embeddings, labels=batch["labels"], routes=routes).logits
        expected = stage(inputs_embeds=embeddings, labels=batch["labels"]).logits
        torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_lion_check_19_a_candidates_loss_is_the_sum_over_its_tokens(
    parts: Path, pictures: list[Image.Image]
) -> None:
    model, processor = lion(parts)
    evidence = model.encode_images(
        **processor.pixels(pictures[:1]),
        question=None if processor.text_reader is None else _question(processor),
    )
    texts = ("no", "yes it is")
    questions = [
        ranked_question(processor, Turn("user", f"<image>\n{q}"), texts) for q in ("Q?", "Find it")
    ]
    shown = ShownImages(evidence, torch.tensor([0, 0]))
    found = rank_candidates(model, questions, shown, batch_size=4)
    for question, likelihoods in zip(questions, found, strict=True):
        for candidate, likelihood in zip(question.candidates, likelihoods, strict=True):
            labels = candidate.labels[None]
            output = model(
                input_ids=question.prompt[None],
                labels=labels,
                evidence=evidence,
                routes=torch.tensor([question.route]),
                attention_mask=torch.ones_like(question.prompt)[None],
            )
            assert likelihood.tokens == labels.numel()
            total = -likelihood.total
            assert total == pytest.approx(float(output.loss) * labels.numel(), rel=1e-4)
    assert [question.route for question in questions] == [1, 0]


def _question(processor: ManyEyesProcessor) -> Any:
    from manyeyes.records import FusionText

    made = processor.question_inputs(["Q?"])
    return FusionText(made["question_ids"], made["question_mask"])


def test_models_without_a_router_refuse_a_task(parts: Path, pictures: list[Image.Image]) -> None:
    model, processor = lion(parts, adapters={"router": False})
    batch = inputs(processor, pictures, tasks=REGION)
    assert "routes" not in batch
    model.generate(**batch, max_new_tokens=2)
    with pytest.raises(UsageError, match="this model does not route by task type"):
        model.generate(**batch, task=REGION, max_new_tokens=2)


def test_an_unknown_task_type_is_refused(parts: Path, pictures: list[Image.Image]) -> None:
    model, processor = lion(parts)
    with pytest.raises(UsageError, match="unknown task type 'boxes'"):
        inputs(processor, pictures, tasks="boxes")
    batch = inputs(processor, pictures)
    with pytest.raises(UsageError, match="unknown task type 'image'"):
        model.generate(**batch, task="image", max_new_tokens=2)
    batch.pop("routes")
    with pytest.raises(PartError, match="no routes were given"):
        model.generate(**batch, max_new_tokens=2)


def test_a_decoder_only_model_in_a_t5_recipe_is_refused(parts: Path) -> None:
    recipe = load_recipe("lion/paper-xl", [f"model.language.checkpoint={parts / 'llama'}"])
    assert recipe.model["language"]["kind"] == "encoder_decoder"
    block = lion_block(parts, "llama")
    block["language"]["kind"] = "encoder_decoder"
    with pytest.raises(PartError, match=r"for encoder_decoder language.*decoder_only.*llama"):
        build_lion(block)


def test_a_saved_model_and_processor_route_as_before(
    parts: Path, pictures: list[Image.Image], tmp_path: Path
) -> None:
    model, processor = lion(parts)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path)
    reread = ManyEyesProcessor.from_pretrained(tmp_path)
    assert reread.routed
    arguments = {"max_new_tokens": 5, "do_sample": False}
    assert torch.equal(
        again.generate(**inputs(reread, pictures), **arguments),
        model.generate(**inputs(processor, pictures), **arguments),
    )


def test_the_language_models_own_dropout_acts_only_if_asked(parts: Path) -> None:
    for dropout in (False, True):
        block = lion_block(parts)
        block["language"]["dropout"] = dropout
        model, _ = build_lion(block)
        model.language_model.requires_grad_(False)
        assert model.train().language_model.training is dropout
