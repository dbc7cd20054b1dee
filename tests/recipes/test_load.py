"""Loading recipes: inheritance, overrides, packaged names, and errors that name the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyeyes.errors import RecipeError
from manyeyes.recipes import dump_recipe, load_recipe, recipe_names
from manyeyes.recipes.blocks import DataSource
from manyeyes.recipes.load import merge, stage_model
from manyeyes.recipes.yaml_io import dump_yaml, parse_yaml

BASE = """
name: base
model:
  encoders:
    - {name: clip, family: clip, checkpoint: a, levels: [1]}
    - {name: dinov2, family: dinov2, checkpoint: b, levels: [2]}
  fusion: {name: comm, merge: lln_layerscale}
training:
  learning_rate: 2e-5
  max_steps: 10
stages:
  - name: align
    train: {fusion: true, language: 1e-6}
    data: [{path: train.json}]
  - name: instruct
    train: {fusion: true}
    data: [{path: chat.json, weight: 0.5}, {path: train.json, weight: 0.5}]
    training: {max_steps: 20}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def child_of(base: Path, text: str) -> Path:
    path = base.parent / "child.yaml"
    path.write_text(f"extends: base.yaml\n{text}")
    return path


def test_top_level_training_is_the_default_of_every_stage(base: Path) -> None:
    align, instruct = load_recipe(base).stages
    assert align.training == {"learning_rate": 2e-5, "max_steps": 10}
    assert instruct.training == {"learning_rate": 2e-5, "max_steps": 20}


def test_extends_merges_blocks_and_stages_by_name(base: Path) -> None:
    child = child_of(
        base,
        "name: child\nmodel: {fusion: {merge: mean}}\n"
        "stages:\n  - {name: instruct, training: {warmup_steps: 0.03}}\n"
        "  - {name: polish, train: {bridge: true}, data: [{path: x.json}]}\n",
    )
    recipe = load_recipe(child)
    assert [stage.name for stage in recipe.stages] == ["align", "instruct", "polish"]
    assert recipe.model["fusion"] == {"name": "comm", "merge": "mean"}
    assert recipe.stage("instruct").training["warmup_steps"] == 0.03
    assert recipe.stage("instruct").training["max_steps"] == 20
    assert recipe.stage("polish").training["max_steps"] == 10
    assert len(recipe.stage("instruct").data) == 2


def test_a_block_with_another_name_replaces_the_parents_block(base: Path) -> None:
    child = child_of(base, "name: child\nmodel: {fusion: {name: single}}\n")
    assert load_recipe(child).model["fusion"] == {"name": "single"}


def test_merge_leaves_its_arguments_alone() -> None:
    old = {"a": {"b": [1]}}
    merged = merge(old, {"a": {"c": 2}})
    merged["a"]["b"].append(3)
    assert old == {"a": {"b": [1]}}


def test_set_reaches_all_stages_one_stage_and_list_items(base: Path) -> None:
    recipe = load_recipe(
        base,
        [
            "training.max_steps=24",
            "stages.instruct.training.max_steps=7",
            "stages.0.training.learning_rate=1e-3",
            "model.encoders.clip.levels=[1, 2]",
            "model.encoders.1.levels=3",
            "seed=5",
        ],
    )
    align, instruct = recipe.stages
    assert (align.training["max_steps"], instruct.training["max_steps"]) == (24, 7)
    assert align.training["learning_rate"] == 1e-3
    assert [encoder["levels"] for encoder in recipe.model["encoders"]] == [[1, 2], 3]
    assert recipe.seed == 5


def test_resolved_recipe_dumps_and_reloads_equal(base: Path) -> None:
    recipe = load_recipe(base, ["stages.align.train={fusion: {learning_rate: 1e-3}, bridge: true}"])
    copy = base.parent / "resolved.yaml"
    copy.write_text(dump_recipe(recipe))
    assert load_recipe(copy) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stagse: []", r"unknown key 'stagse' \(did you mean 'stages'\?\)"),
        (
            "stages: [{name: align, trian: {}}]",
            r"stages\.align: unknown key 'trian' \(did you mean 'train'\?\)",
        ),
        (
            "stages: [{name: align, data: [{path: a, wieght: 2}]}]",
            r"stages\.align\.data\.0: unknown key 'wieght' \(did you mean 'weight'\?\)",
        ),
        (
            "stages: [{name: align, training: {lerning_rate: 1}}]",
            r"stages\.align\.training\.lerning_rate: .*did you mean 'learning_rate'",
        ),
        (
            "stages: [{name: align, training: {max_steps: many}}]",
            r"stages\.align\.training\.max_steps: .*integer.*'many'",
        ),
        (
            "stages: [{name: align, training: {lr_scheduler_type: cosin}}]",
            r"lr_scheduler_type: 'cosin' is not one of .*did you mean 'cosine'",
        ),
        ("stages: [{name: align, training: {output_dir: x}}]", r"output_dir: .*--out"),
        (
            "stages: [{name: align, objectives: {next_tokn: 1}}]",
            r"unknown objective 'next_tokn' \(did you mean 'next_token'\?\)",
        ),
        (
            "stages: [{name: align, train: {fusion: fast}}]",
            r"align\.train: fusion: .*'fast'",
        ),
        ("stages: [{name: align, train: {fusion: false, language: false}}]", r"nothing learns"),
        ("stages: [{name: model, train: {fusion: true}, data: [{path: a}]}]", r"'model'"),
        ("stages: [{name: align, data: []}]", r"stages\.align\.data: .*at least 1"),
        ("stages: [{name: align, start: [{stage: nowhere}]}]", r"'align' starts from 'nowhere'"),
        ("model: {fuson: {name: comm}}", r"model: unknown key 'fuson' \(did you mean 'fusion'\?\)"),
        ("model: {fusion: {name: com}}", r"model: .*'com' is not one of .*'comm'"),
        ("model: {encoders: []}", r"model\.encoders: expected at least one encoder"),
        (
            "stages: [{name: align, model: {box_style: lino}}]",
            r"model: .*box_style: 'lino' is not one of",
        ),
        ("dtype: float31", r"dtype: .*'float32'"),
    ],
)
def test_wrong_recipes_say_where_and_what_was_meant(base: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(child_of(base, text))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.max_steps", "expected key.path=value"),
        ("=3", "expected key.path=value"),
        ("stages.aling.seed=1", r"no item called 'aling' \(did you mean 'align'\?\)"),
        ("stages.7.seed=1", "the list has 2 items"),
        ("name.x=1", "not a block of keys"),
        ("name.x.y=1", "name.x does not exist"),
        ("training.max_setps=3", "did you mean 'max_steps'"),
        ("model={a: 1, a: 2}", "written twice"),
        ("seed=[1", "not valid YAML"),
        ("seed=-1", "seed: Input should be greater than or equal to 0"),
        ("seed=4294967296", "seed: Input should be less than 2147483648"),
        ("stages.align.seed=-1", "seed: Input should be greater than or equal to 0"),
        ("stages.align.train.fusion=-0.1", "fusion: expected a learning rate of 0 or more"),
        ("stages.align.train.fusion=.nan", "fusion: expected a learning rate of 0 or more"),
        ("stages.align.train.fusion={learning_rate: .inf}", "learning_rate: .* finite number"),
        ("stages.align.objectives.next_token=-1", "next_token: expected a weight of 0 or more"),
        ("stages.align.objectives.next_token=.nan", "next_token: expected a weight of 0 or more"),
        ("stages.align.data.0.weight=.inf", "weight: .* finite number"),
    ],
)
def test_bad_settings_are_named(base: Path, setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(base, [setting])


def test_another_checkpoint_brings_its_own_architecture(base: Path) -> None:
    declared = "model: {language: {checkpoint: a, config: {model_type: llama}}}"
    (base.parent / "declared.yaml").write_text(f"extends: base.yaml\n{declared}\n")
    path = base.parent / "declared.yaml"
    assert load_recipe(path).model["language"]["config"] == {"model_type": "llama"}
    overridden = load_recipe(path, ["model.language.checkpoint=b"])
    assert overridden.model["language"] == {"checkpoint": "b"}
    child = base.parent / "grandchild.yaml"
    child.write_text("extends: declared.yaml\nmodel: {language: {checkpoint: c}}\n")
    assert load_recipe(child).model["language"] == {"checkpoint": "c"}


def test_unknown_stage_names_the_nearest(base: Path) -> None:
    with pytest.raises(RecipeError, match=r"no stage 'instrct' \(did you mean 'instruct'\?\)"):
        load_recipe(base).stage("instrct")


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'comm/wrld' \(did you mean 'comm/world'\?\)"):
        load_recipe("comm/wrld")


def test_missing_file_and_circle_of_parents(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe file"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(RecipeError, match="circle"):
        load_recipe(tmp_path / "a.yaml")


def test_yaml_reads_exponents_and_refuses_repeated_keys() -> None:
    assert parse_yaml("{a: 2e-5, b: 1E3, c: -3e+2, d: e5}", "x") == {
        "a": 2e-5,
        "b": 1e3,
        "c": -3e2,
        "d": "e5",
    }
    assert parse_yaml(dump_yaml({"a": 2e-05}), "x") == {"a": 2e-5}
    with pytest.raises(RecipeError, match=r"line 2: key 'a' is written twice"):
        parse_yaml("a: 1\na: 2\n", "x")


@pytest.mark.parametrize("name", recipe_names())
def test_every_packaged_recipe_loads(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description


@pytest.mark.parametrize(
    "name", [f"{m}/{s}" for m in ("qformer", "xformer") for s in ("paper", "small")]
)
def test_the_second_stage_writes_captions_as_lavis_does(name: str) -> None:
    """No prompt, 32 queries and 32 tokens of text, a line end (X-Former §4)."""
    recipe = load_recipe(name)
    align = recipe.stages[-1]
    model = stage_model(recipe, align)
    assert align.name == "align" and model["prompt_style"] == "blip2"
    assert model["max_tokens"] - model["fusion"]["queries"] == 32
    assert {source.caption_prompt for source in align.data} == {""}


def test_records_of_sources_without_a_caption_prompt_stay_as_they_were() -> None:
    source = {"path": "a.json"}
    assert "caption_prompt" not in DataSource(**source).model_dump(mode="json")
    assert DataSource(**source, caption_prompt="").model_dump()["caption_prompt"] == ""
