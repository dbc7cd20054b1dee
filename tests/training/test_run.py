"""Whole runs: folders, resuming, stages that build on each other, bad input."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lion_parts import lion_block
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import CheckpointError, DataError, RecipeError, UsageError
from manyeyes.recipes import Recipe, load_recipe
from manyeyes.training import train
from manyeyes.training.precomputed import features
from manyeyes.training.saving.folders import checkpoints
from manyeyes.training.stage import RunOptions, Stage
from manyeyes.training.trainer import StageTrainer
from training_runs import largest_difference, losses, recipe_data, same_weights, weights

pytestmark = pytest.mark.long

MakeRecipe = Callable[..., Recipe]


def test_run_leaves_checkpoints_model_log_and_results(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    recipe, out = make_recipe(), tmp_path / "out"
    found = train(recipe, out, data_dir=data)
    assert found.model_dir == out / "model"
    assert [path.name for path in checkpoints(out / "align")] == ["checkpoint-2", "checkpoint-4"]
    assert [path.name for path in checkpoints(out / "instruct")] == ["checkpoint-2", "checkpoint-3"]
    assert len(losses(out / "align")) == 4 and len(losses(out / "instruct")) == 3
    assert load_recipe(out / "recipe.yaml") == recipe
    results = json.loads((out / "results.json").read_text())
    assert [stage["stage"] for stage in results["stages"]] == ["align", "instruct"]
    assert results["stages"][0]["data"][0]["samples"] == 12
    assert results["stages"][0]["samples"] == 16
    assert (
        results["stages"][1]["parameters"]["trained"]
        < results["stages"][0]["parameters"]["trained"]
    )
    assert len(results["weights"]["model.safetensors"]) == 64
    model = ManyEyesForConditionalGeneration.from_pretrained(out / "model")
    assert ManyEyesProcessor.from_pretrained(out / "model").visual_tokens == 16
    assert model.config.visual_tokens == 16


def test_the_model_of_a_run_keeps_the_tokenizer_of_a_fusion_that_reads(
    make_recipe: MakeRecipe, parts: Path, data: Path, tmp_path: Path
) -> None:
    block = lion_block(parts, "llama", adapters={"count": 1})
    recipe = make_recipe(model=block, stages=recipe_data(parts)["stages"][:1])
    train(recipe, tmp_path / "out", data_dir=data)
    processor = ManyEyesProcessor.from_pretrained(tmp_path / "out" / "model")
    assert processor.question_inputs(["what is there?"])
    names = {path.name for path in (tmp_path / "out" / "model").iterdir()}
    assert "reader" in names and not names & {"optimizer.pt", "scheduler.pt", "rng_state.pth"}


def test_a_later_stage_keeps_what_an_earlier_one_trained(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    train(make_recipe(), tmp_path / "out", data_dir=data)
    after_align = weights(tmp_path / "out" / "align" / "checkpoint-4")
    final = weights(tmp_path / "out" / "model")
    language = [name for name in after_align if name.startswith("language_model.")]
    assert language and all(torch.equal(after_align[name], final[name]) for name in language)
    moved = [name for name in final if not torch.equal(after_align[name], final[name])]
    assert moved and all(name.startswith("fusion.") for name in moved)
    assert not [name for name in final if name.startswith("encoders.")]


def test_resume_of_a_finished_run_repeats_nothing(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    train(make_recipe(), out, data_dir=data)
    before = (out / "model" / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="already holds a run"):
        train(make_recipe(), out, data_dir=data)

    def no_step(*args: Any) -> None:
        raise AssertionError("a finished stage was trained again")

    monkeypatch.setattr(StageTrainer, "training_step", no_step)
    train(make_recipe(), out, data_dir=data, resume=True)
    assert (out / "model" / "model.safetensors").read_bytes() == before


def test_single_stages_one_after_the_other_equal_the_whole_run(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    recipe = make_recipe()
    with pytest.raises(UsageError, match="'instruct' starts from stage 'align', which is not"):
        train(recipe, tmp_path / "parts", data_dir=data, stage="instruct")
    with pytest.raises(RecipeError, match=r"no stage 'aling'.*'align'"):
        train(recipe, tmp_path / "parts", data_dir=data, stage="aling")
    train(recipe, tmp_path / "parts", data_dir=data, stage="align")
    train(recipe, tmp_path / "parts", data_dir=data, stage="instruct")
    train(recipe, tmp_path / "whole", data_dir=data)
    assert same_weights(tmp_path / "parts" / "model", tmp_path / "whole" / "model")


def test_resume_with_another_recipe_is_refused_but_logging_may_change(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    train(make_recipe(), out, data_dir=data, stage="align")
    changed = make_recipe("stages.instruct.training.learning_rate=5e-4")
    with pytest.raises(RecipeError, match=r"stages\.instruct\.training\.learning_rate = 0\.001"):
        train(changed, out, data_dir=data, resume=True)
    train(make_recipe("training.logging_steps=2"), out, data_dir=data, resume=True)
    assert (out / "model").is_dir()


def test_ctrl_c_saves_and_resume_continues_bit_for_bit(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make_recipe(), tmp_path / "whole", data_dir=data)
    step = StageTrainer.training_step

    def interrupted(self: StageTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 2:
            signal.raise_signal(signal.SIGINT)
        return step(self, *args, **kwargs)

    out, handler = tmp_path / "out", signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="after step 3"):
        patch.setattr(StageTrainer, "training_step", interrupted)
        train(make_recipe(), out, data_dir=data)
    assert signal.getsignal(signal.SIGINT) is handler  # also where the shell ignores Ctrl-C
    assert checkpoints(out / "align")[-1].name == "checkpoint-3"
    train(make_recipe(), out, data_dir=data, resume=True)
    assert same_weights(out / "model", tmp_path / "whole" / "model")
    assert losses(out / "align") == losses(tmp_path / "whole" / "align")


def test_resume_onto_another_global_batch_neither_skips_nor_repeats(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, drawn = tmp_path / "out", []
    train(make_recipe(), out, data_dir=data, stage="align")
    (out / "align" / "results.json").unlink()
    for path in checkpoints(out / "align")[1:]:
        (path / "trainer_state.json").unlink()
    read = features.FeatureDataset.__getitem__

    def note(self: Any, index: int) -> Any:
        drawn.append(index)
        return read(self, index)

    monkeypatch.setattr(features.FeatureDataset, "__getitem__", note)
    settings = ("training.per_device_train_batch_size=2", "stages.align.cache_features=true")
    (out / "recipe.yaml").unlink()
    train(make_recipe(*settings), out, data_dir=data, stage="align", resume=True)
    trainer_order = list(range(12))
    assert len(drawn) == 4 and not set(drawn) - set(trainer_order)
    state = json.loads((out / "align" / "checkpoint-4" / "data_state.json").read_text())
    assert state["samples_seen"] == 2 * 4 + 2 * 2


def test_damaged_checkpoint_is_named(make_recipe: MakeRecipe, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(make_recipe(), out, data_dir=data, stage="align")
    (out / "align" / "results.json").unlink()
    file = out / "align" / "checkpoint-4" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"checkpoint-4/model\.safetensors: damaged"):
        train(make_recipe(), out, data_dir=data, resume=True)


def test_cached_features_train_alike_and_are_computed_once(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make_recipe(), tmp_path / "plain", data_dir=data)
    encoded: list[int] = []
    encode = features._encode

    def count(model: Any, processor: Any, paths: Any, *rest: Any) -> Any:
        encoded.extend(range(len(paths)))
        return encode(model, processor, paths, *rest)

    monkeypatch.setattr(features, "_encode", count)
    cached = make_recipe("stages.0.cache_features=true", "stages.1.cache_features=true")
    train(cached, tmp_path / "cached", data_dir=data)
    assert len(encoded) == 12
    for stage in ("align", "instruct"):
        assert losses(tmp_path / "plain" / stage) == pytest.approx(
            losses(tmp_path / "cached" / stage), abs=1e-5
        )
    assert largest_difference(tmp_path / "plain" / "model", tmp_path / "cached" / "model") < 1e-5


def test_too_small_a_cache_is_announced_and_left_out(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ("stages.0.cache_features=true", "stages.0.cache_max_gb=1e-9")
    with caplog.at_level("WARNING", logger="manyeyes"):
        train(make_recipe(*settings), tmp_path / "out", data_dir=data, stage="align")
    assert "feature store is off for 12 images: the store would hold" in caplog.text
    assert len(losses(tmp_path / "out" / "align")) == 4


def test_broken_rows_are_refused_or_counted_and_named(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    rows = json.loads((data / "train.json").read_text())
    del rows[4]["conversations"]
    rows[5]["image"] = "nowhere.png"
    (data / "broken.json").write_text(json.dumps(rows))
    source = "stages.0.data=[{path: broken.json}]"
    with pytest.raises(DataError, match=r"broken\.json, entry 5: conversations"):
        train(make_recipe(source), tmp_path / "a", data_dir=data)
    found = train(
        make_recipe(source), tmp_path / "b", data_dir=data, stage="align", skip_bad_rows=True
    )
    entry = found.results["stages"][0]["data"][0]
    assert (entry["samples"], entry["skipped"]) == (10, 2)
    assert "broken.json, entry 5" in entry["skipped_rows"][0]
    assert "broken.json, entry 6: image: no such image file" in entry["skipped_rows"][1]


def test_relative_data_without_a_folder_is_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'train\.json' is relative: give its folder with --data"):
        train(make_recipe(), tmp_path / "out")


def test_a_stage_starts_from_named_weights_renamed(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    train(make_recipe(), tmp_path / "first", data_dir=data, stage="align")
    source = tmp_path / "first" / "align" / "checkpoint-4"
    start = [
        {"checkpoint": str(source), "only": ["fusion.projector.*"]},
        {
            "checkpoint": str(source),
            "only": ["fusion.mergers.clip.*"],
            "rename": {"fusion.mergers.clip.": "fusion.mergers.dinov2."},
        },
    ]
    setting = f"stages.instruct.start={yaml.safe_dump(start, default_flow_style=True).strip()}"
    recipe = make_recipe(setting, "stages.instruct.training.learning_rate=0.0")
    with pytest.raises(CheckpointError, match=r"no parameter 'fusion\.mergers\.dinov2\.maps\.2"):
        train(recipe, tmp_path / "out", data_dir=data, stage="instruct")
    start[1]["only"] = ["fusion.mergers.clip.maps.1.*"]
    setting = f"stages.instruct.start={yaml.safe_dump(start, default_flow_style=True).strip()}"
    recipe = make_recipe(
        setting, "stages.instruct.train={fusion: 0.0}", "stages.instruct.training.max_steps=1"
    )
    train(recipe, tmp_path / "out2", data_dir=data, stage="instruct")
    stored, final = weights(source), weights(tmp_path / "out2" / "model")
    copied = [name for name in stored if name.startswith("fusion.projector.")]
    assert copied and all(torch.equal(stored[name], final[name]) for name in copied)
    moved = [name for name in stored if name.startswith("fusion.mergers.clip.maps.1.")]
    targets = [name.replace(".clip.", ".dinov2.") for name in moved]
    assert moved and all(
        torch.equal(stored[name], final[target])
        for name, target in zip(moved, targets, strict=True)
    )


def test_workers_and_activation_checkpointing_change_no_weight(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    settings = ("training.dataloader_num_workers=2", "training.activation_checkpointing=true")
    train(make_recipe(), tmp_path / "plain", data_dir=data, stage="align")
    train(make_recipe(*settings), tmp_path / "other", data_dir=data, stage="align")
    assert largest_difference(tmp_path / "plain" / "model", tmp_path / "other" / "model") < 1e-6


def test_bfloat16_computation_keeps_float32_weights(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    train(make_recipe(), tmp_path / "full", data_dir=data, stage="align")
    train(make_recipe("training.bf16=true"), tmp_path / "half", data_dir=data, stage="align")
    assert {tensor.dtype for tensor in weights(tmp_path / "half" / "model").values()} == {
        torch.float32
    }
    assert losses(tmp_path / "half" / "align") == pytest.approx(
        losses(tmp_path / "full" / "align"), rel=2e-2
    )


def test_alternating_mixture_fills_each_step_from_one_file(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    rows = json.loads((data / "train.json").read_text())
    for name in ("left", "right"):
        renamed = [{**row, "id": f"{name}{row['id']}"} for row in rows]
        (data / f"{name}.json").write_text(json.dumps(renamed))
    recipe = make_recipe(
        "stages.align.mixture=alternate",
        "stages.align.data=[{path: left.json}, {path: right.json}]",
    )
    trainer, _ = Stage(recipe, recipe.stages[0], RunOptions(tmp_path, data)).prepare()
    kinds = [
        {trainer.data.name(index)[:4] for index in trainer._batches.of_step(step)}
        for step in range(4)
    ]
    assert kinds in ([{"left"}, {"righ"}] * 2, [{"righ"}, {"left"}] * 2)
