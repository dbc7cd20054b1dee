"""Words and files that name arms, and budgets that become steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import tiny
from manyeyes.errors import DataError, RecipeError, UsageError
from manyeyes.inference.questions import Item
from manyeyes.recipes import Recipe, dump_recipe, load_recipe
from manyeyes.records import PackedImage
from manyeyes.study.claims.table import CLAIM_ARMS, CLAIMS, chosen_claims
from manyeyes.study.comparison.compare import _keep_packed
from manyeyes.study.trials.arms import path_within
from manyeyes.study.trials.budget import Budget, parse_budget, with_budget
from manyeyes.study.trials.contestants import Contestant, check_arms, parse_arm, read_arms
from manyeyes.study.trials.inputs import DATA, TOLD, Inputs, exam_digest
from manyeyes.study.trials.trial import kept_picture


def test_a_model_behind_an_api_is_an_arm_that_is_not_trained() -> None:
    word = "openai:http://localhost:8000/v1#demo/model"
    assert parse_arm(word) == Contestant("demo/model", word)
    assert parse_arm(f"theirs={word}") == Contestant("theirs", word)
    assert parse_arm(word).served and not parse_arm("comm/world").served
    with pytest.raises(UsageError, match="expected openai:http://HOST/v1#MODEL"):
        parse_arm("openai:http://localhost:8000/v1")
    with pytest.raises(UsageError, match=r"give it another, NAME=openai:http://h/v1#a b"):
        parse_arm("openai:http://h/v1#a b")


@pytest.mark.parametrize(
    ("word", "arm"),
    [
        ("comm/world", Contestant("comm/world", "comm/world")),
        ("mine/own.yaml", Contestant("own", "mine/own.yaml")),
        (
            "sum=comm/world:model.fusion.join=sum",
            Contestant("sum", "comm/world", ("model.fusion.join=sum",)),
        ),
        (
            "comm/world:model.encoders.clip.levels=[1,2],"
            "stages.multitask.train={fusion: true, b: 1}",
            Contestant(
                "comm/world",
                "comm/world",
                (
                    "model.encoders.clip.levels=[1,2]",
                    "stages.multitask.train={fusion: true, b: 1}",
                ),
            ),
        ),
    ],
)
def test_words_name_arms(word: str, arm: Contestant) -> None:
    assert parse_arm(word) == arm
    assert parse_arm(arm.text if "=" not in word.partition(":")[0] else word) == arm


@pytest.mark.parametrize("word", ["", "name=", "a b=comm/world", "=comm/world"])
def test_words_that_name_none_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="arm"):
        parse_arm(word)


def test_files_name_arms(tmp_path: Path) -> None:
    path = tmp_path / "arms.yaml"
    path.write_text("a: comm/world\nb: {recipe: own.yaml, set: ['seed=1']}\n")
    assert read_arms(path) == [
        Contestant("a", "comm/world"),
        Contestant("b", str(tmp_path / "own.yaml"), ("seed=1",)),
    ]
    path.write_text("a: {recipe: comm/world, settings: []}\n")
    with pytest.raises(RecipeError, match="a: knows only"):
        read_arms(path)
    path.write_text("a: 3\n")
    with pytest.raises(RecipeError, match="a: expected a recipe"):
        read_arms(path)


def test_arms_need_names_of_their_own() -> None:
    one = Contestant("comm/world", "comm/world")
    with pytest.raises(UsageError, match="at least two arms"):
        check_arms([one])
    with pytest.raises(UsageError, match="again=comm/world"):
        check_arms([one, Contestant("comm-world", "comm/world")])


def test_a_seed_reaches_every_stage(tmp_path: Path) -> None:
    path = tmp_path / "seven.yaml"
    path.write_text(dump_recipe(load_recipe("comm/world", ["stages.instruct.seed=7"])))
    recipe = parse_arm(str(path)).load(3)
    assert recipe.seed == 3
    assert [stage.seed for stage in recipe.stages] == [None, None]
    with pytest.raises(RecipeError, match="gives every arm its seeds"):
        parse_arm("comm/world:stages.instruct.seed=7").load(0)
    with pytest.raises(RecipeError, match="arm 'x': no recipe"):
        Contestant("x", "comm/wrld").load(0)


def steps(budget: str, cost: dict[str, float] | None = None) -> list[int]:
    settings = [
        "training.per_device_train_batch_size=32",
        "stages.multitask.training.max_steps=300",
        "stages.instruct.training.max_steps=100",
    ]
    recipe = with_budget(load_recipe("comm/world", settings), parse_budget(budget), cost)
    return [int(stage.training["max_steps"]) for stage in recipe.stages]


def test_stages_share_budgets_as_their_recipe_shares_steps() -> None:
    assert steps("steps=400") == [300, 100]
    assert steps("steps=10") == [8, 2]
    assert sum(steps("steps=333")) == 333
    assert steps("samples=12800") == [300, 100]
    cost = {"multitask": 2e9, "instruct": 1e9}
    assert steps("flops=8e11", cost) == [300, 200]
    assert steps("minutes=2", {"multitask": 0.01, "instruct": 0.02}) == [150, 25]
    assert with_budget(load_recipe("comm/world"), None) == load_recipe("comm/world")


def test_budgets_below_one_step_are_refused() -> None:
    with pytest.raises(UsageError, match="too small for comm/world: stage 'instruct'"):
        steps("samples=100")
    epochs = load_recipe("comm/world", ["stages.instruct.training.max_steps=-1"])
    with pytest.raises(RecipeError, match="'instruct' is measured in epochs"):
        with_budget(epochs, Budget("steps", 10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("400", "UNIT=AMOUNT"),
        ("step=400", "did you mean 'steps'"),
        ("steps=many", "positive number"),
        ("flops=-1", "positive number"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_budget(text)


def test_every_claim_names_known_arms_and_a_reason_to_fail() -> None:
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    used = {arm for claim in CLAIMS for arm in claim.arms}
    assert used == set(CLAIM_ARMS)
    for claim in CLAIMS:
        assert claim.question.challenger != claim.question.reference
    with pytest.raises(UsageError, match="did you mean 'late-over-early'"):
        chosen_claims(["late-over-earl"])


@pytest.mark.parametrize("name", CLAIM_ARMS)
def test_every_arm_of_a_claim_can_be_built(name: str) -> None:
    arm = parse_arm(CLAIM_ARMS[name])
    assert arm.name == name
    assert arm.load(0).world is not None


def _computed(recipe: Recipe, bf16: bool | str) -> Recipe:
    stage = recipe.stages[0].model_copy(update={"training": {"bf16": bf16}})
    return recipe.model_copy(update={"stages": [stage]})


def test_the_machines_choice_of_numbers_is_no_other_recipe(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.save_data(tmp_path)
    stage = {"name": "a", "train": {"fusion": True}, "data": [{"path": "train.json"}]}
    block = {"name": "x", "model": tiny.model_block(parts), "stages": [stage]}
    recipe = Recipe(**block)
    hashes = Inputs(data).of_training(recipe)
    found = [Inputs(data).of_training(_computed(recipe, bf16)) for bf16 in ("auto", True, False)]
    assert len({one["recipe"] for one in found}) == 3  # what is demanded is part of a recipe
    monkeypatch.setattr("manyeyes.recipes.training_fields.bfloat16_pays", lambda: "elsewhere")
    auto = _computed(recipe, "auto")
    assert Inputs(data).of_training(auto) == found[0]
    assert Inputs(data).of_stages(auto).keys() == {"a"}
    other = Inputs(data).of_training(recipe.model_copy(update={"seed": 1}))
    assert {key for key in hashes if hashes[key] != other[key]} == {"recipe"}
    (data / "0.png").write_bytes(b"")
    changed = Inputs(data).of_training(recipe)
    assert {key for key in hashes if hashes[key] != changed[key]} == {"data"}
    (data / "train.json").unlink()
    with pytest.raises(DataError, match=r"train\.json: cannot be read"):
        Inputs(data).of_training(recipe)


def test_files_that_training_and_exam_are_told_of_are_inputs(parts: Path, tmp_path: Path) -> None:
    data = tiny.save_data(tmp_path)
    for name in ("tags.jsonl", "objects.json", "tags-test.jsonl"):
        (data / name).write_text("first")
    source = {"path": "train.json", "tags": "tags.jsonl", "objects": {"path": "objects.json"}}
    stage = {"name": "a", "train": {"fusion": True}, "data": [source]}
    tagger = {"family": "file", "checkpoint": "tags-{split}.jsonl"}
    model = {**tiny.model_block(parts), "tagger": tagger}
    recipe = Recipe(name="x", model=model, stages=[stage])

    def hashes() -> dict[str, str]:
        inputs = Inputs(data)
        return {**inputs.of_training(recipe), **inputs.of_exam(recipe, "test")}

    before = hashes()
    for name, key in (("tags.jsonl", DATA), ("objects.json", DATA), ("tags-test.jsonl", TOLD)):
        (data / name).write_text("second")
        now = hashes()
        assert [one for one in now if now[one] != before[one]] == [key]
        before = now
    assert Inputs(data).of_exam(load_recipe("comm/world"), "test") == {}
    with pytest.raises(DataError, match=r"tags-val\.jsonl: cannot be read"):
        Inputs(data).of_exam(recipe, "val")


def test_other_images_or_boxes_are_another_exam(tmp_path: Path) -> None:
    image = tmp_path / "0.png"
    image.write_bytes(b"picture")
    item = Item("1", str(image), "Where?", ("here",), "0", boxes=(((0.0, 0.0, 1.0, 1.0),),))
    before = exam_digest([item], tmp_path)
    assert exam_digest([replace(item, boxes=(((0.0, 0.0, 1.0, 2.0),),))], tmp_path) != before
    assert exam_digest([replace(item, candidates=("a", "b"))], tmp_path) != before
    image.write_bytes(b"another picture")
    assert exam_digest([item], tmp_path) != before


def test_budgets_are_told_in_full() -> None:
    assert str(parse_budget("samples=1234567")) == "samples=1234567"
    assert str(parse_budget("minutes=1.5")) == "minutes=1.5"
    assert parse_budget(str(parse_budget("flops=2.5e15"))) == Budget("flops", 2.5e15)


def test_images_behind_a_link_and_outside_the_data_are_named(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    data = tmp_path / "data"
    data.mkdir()
    (data / "val2014").symlink_to(tmp_path / "coco")
    assert path_within(str(data / "val2014" / "1.png"), data) == "val2014/1.png"
    outside = str(tmp_path / "coco" / "1.png")
    assert path_within(outside, data) == outside
    kept = kept_picture(outside)
    assert kept.parent == Path("records/pictures")
    assert kept != kept_picture(str(tmp_path / "coco" / "2.png"))


class Inside(PackedImage):
    """An image whose bytes are those of its name."""

    def read(self) -> bytes:
        return self.encode()


def test_images_inside_a_data_file_are_kept_for_the_report(tmp_path: Path) -> None:
    packed = Inside(str(tmp_path / "data" / "questions.tsv" / "3"))
    loose = str(tmp_path / "data" / "4.png")
    items = [Item(str(i), image, "What?", ("a",), "0") for i, image in enumerate((packed, loose))]
    _keep_packed(items, tmp_path / "out", tmp_path / "data")
    kept = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert kept == [tmp_path / "out" / kept_picture("questions.tsv/3")]
    assert kept[0].read_bytes() == packed.encode()
