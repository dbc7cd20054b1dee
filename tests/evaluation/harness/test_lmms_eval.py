"""manyeyes inside the real lmms-eval: run them with ``make lmms-eval-test``.

lmms-eval brings 2.4 GB of packages, so it has an environment of its own; without it these tests are
skipped. A tiny model is taught some right and some wrong answers, so that scores are no 0 or 100.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import CheckpointError, DataError, UsageError
from manyeyes.evaluation.answers.score import Scoring, score_file
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("lmms_eval") is None, reason="no lmms-eval here"),
    pytest.mark.filterwarnings("ignore"),  # of the harness and what it imports
]

Run = Callable[..., dict[str, Any]]
TASKS = ("manyeyes_pope", "manyeyes_vqa")
SETS = ("random", "popular", "adversarial")


@pytest.fixture
def run(model: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """One evaluation in this process."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    def evaluate(names: Sequence[str] = TASKS, **options: Any) -> dict[str, Any]:
        manager = TaskManager(
            include_path=str(tasks), include_defaults=False, model_name="manyeyes"
        )
        arguments = {"model_args": f"pretrained={model}", "device": "cpu", "batch_size": 4}
        return simple_evaluate(
            "manyeyes",
            tasks=list(names),
            task_manager=manager,
            log_samples=True,
            bootstrap_iters=0,
            **{**arguments, **options},
        )

    yield evaluate


def answers(results: dict[str, Any], task: str = "manyeyes_vqa") -> dict[str, str]:
    """Item id -> what was answered."""
    samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    return {sample["doc"]["id"]: sample["filtered_resps"][0] for sample in samples}


def annotation_files(data: Path, name: str) -> list[Path]:
    folder = data / "annotations"
    if name == "pope":
        return [folder / f"pope_{kind}_val.jsonl" for kind in SETS]
    return [folder / "vqa_val_questions.json", folder / "vqa_val_annotations.json"]


def test_the_entry_point_is_found() -> None:
    from lmms_eval.models import get_model, get_model_manifest, list_available_models

    assert "manyeyes" in list_available_models()
    assert get_model_manifest("manyeyes").simple_class_path.endswith("SimpleManyEyes")
    assert get_model("manyeyes").is_simple is False
    assert get_model("manyeyes", force_simple=True).is_simple is True


def test_values_equal_manyeyes_score_on_the_same_answers(
    run: Run, data: Path, tmp_path: Path
) -> None:
    results = run()
    json.dumps(results["results"])
    for task in TASKS:
        name = task.removeprefix("manyeyes_")
        file = tmp_path / f"{name}.json"
        rows = [{"question_id": key, "answer": a} for key, a in answers(results, task).items()]
        file.write_text(json.dumps(rows))
        expected = score_file(Scoring(name, annotation_files(data, name)), file).result
        found = results["results"][task]
        for score in expected.scores:
            assert found[f"{score.metric},none"] == score.value, score.metric
        assert found["parse_failures,none"] == expected.parse_failures
        assert 0 < expected.headline.value < 100
        assert expected.headline.ci95 is not None
        clustered = found["accuracy_stderr_clustered,none"]
        low, high = expected.headline.ci95
        assert 2 * 1.96 * clustered == pytest.approx(high - low)


def test_answers_equal_those_of_manyeyes_evaluate(
    run: Run, model: Path, items: dict[str, list[Item]]
) -> None:
    loaded = ManyEyesForConditionalGeneration.from_pretrained(model)
    predictor = ModelPredictor(loaded, ManyEyesProcessor.from_pretrained(model))
    expected = predictor.answer(items["vqa"], with_images=True)
    found = answers(run(["manyeyes_vqa"]))
    assert list(found.values()) == expected
    assert len(set(expected)) > 1


def test_simple_and_chat_and_every_batch_size_agree(run: Run) -> None:
    chat = answers(run(["manyeyes_vqa"]))
    assert answers(run(["manyeyes_vqa"], force_simple=True)) == chat
    assert answers(run(["manyeyes_vqa"], batch_size=1)) == chat
    assert answers(run(["manyeyes_vqa"], force_simple=True, batch_size=1)) == chat


def test_until_ends_an_answer(run: Run) -> None:
    whole = answers(run(["manyeyes_pope"]), "manyeyes_pope")
    stop = next(iter(whole.values()))[1]
    cut = answers(run(["manyeyes_pope"], gen_kwargs=f"until={stop}"), "manyeyes_pope")
    assert cut == {key: text.partition(stop)[0] for key, text in whole.items()}
    assert cut != whole


def test_the_command_line_writes_the_same_values(
    run: Run, model: Path, tasks: Path, tmp_path: Path
) -> None:
    expected = run(["manyeyes_pope"])["results"]["manyeyes_pope"]
    command = [sys.executable, "-m", "lmms_eval", "eval", "--model", "manyeyes"]
    command += ["--model_args", f"pretrained={model}", "--include_path", str(tasks)]
    command += ["--tasks", "manyeyes_pope", "--batch_size", "4", "--device", "cpu"]
    command += ["--output_path", str(tmp_path / "out"), "--log_samples"]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = (tmp_path / "out").rglob("*_results.json")
    found = json.loads(file.read_text())["results"]["manyeyes_pope"]
    for key in ("accuracy,none", "f1,none", "yes_ratio,none"):
        assert found[key] == expected[key]


def test_likelihoods_are_refused_with_the_way_out(model: Path) -> None:
    from manyeyes.evaluation.harness.lmms_eval import SimpleManyEyes

    wrapped = SimpleManyEyes(pretrained=str(model), device="cpu")
    with pytest.raises(UsageError, match="--choice loglik"):
        wrapped.loglikelihood([])
    with pytest.raises(UsageError, match="several rounds"):
        wrapped.generate_until_multi_round([])


def test_bad_arguments_are_named(model: Path) -> None:
    from manyeyes.evaluation.harness.lmms_eval import ChatManyEyes

    with pytest.raises(UsageError, match="did you mean 'pretrained'"):
        ChatManyEyes(pretraned="x")
    with pytest.raises(UsageError, match="pretrained=FOLDER"):
        ChatManyEyes()
    with pytest.raises(UsageError, match="'auto'"):
        ChatManyEyes(pretrained=str(model), batch_size="auto")
    with pytest.raises(UsageError, match="unknown dtype 'bf16'"):
        ChatManyEyes(pretrained=str(model), dtype="bf16", device="cpu")
    with pytest.raises(CheckpointError):
        ChatManyEyes(pretrained=str(model.parent / "nothing"), device="cpu")


def test_pictures_stand_where_the_text_says(pictures: list[Image.Image]) -> None:
    from manyeyes.evaluation.harness.lmms_eval import parts

    first, second = pictures[:2]
    shown = [{"type": "image", "image": first}, {"type": "text", "text": "What?"}]
    assert parts("What?", [first], "t") == shown
    assert parts("<image>\nWhat?", [first], "t") == shown
    placed = parts("Is <image> like <image>?", [first, second], "t")
    assert [part["type"] for part in placed] == ["text", "image", "text", "image", "text"]
    assert parts("No picture.", [], "t") == [{"type": "text", "text": "No picture."}]
    with pytest.raises(DataError, match="t: 1 <image> in the text, 2 pictures"):
        parts("<image>", [first, second], "t")


def test_videos_and_sounds_are_refused(model: Path) -> None:
    from manyeyes.evaluation.harness.lmms_eval import ChatManyEyes, SimpleManyEyes

    chat = ChatManyEyes(pretrained=str(model), device="cpu")
    chat.task_dict = {"t": {"s": [{}]}}
    message = {"role": "user", "content": [{"type": "video", "url": "a.mp4"}]}
    with pytest.raises(DataError, match="document 0: manyeyes reads no videos"):
        chat._question(("", lambda document: [message], {}, 0, "t", "s"))
    simple = SimpleManyEyes(pretrained=str(model), device="cpu")
    simple.task_dict = chat.task_dict
    with pytest.raises(DataError, match="expected pictures, got a str"):
        simple._question(("", {}, lambda document: ["a.mp4"], 0, "t", "s"))


@pytest.mark.parametrize(
    ("options", "room", "expected"),
    [
        ({}, None, {"max_new_tokens": 1024, "do_sample": False}),
        (
            {"temperature": 0, "top_p": 1.0, "num_beams": 3, "until": ["\n"]},
            None,
            {"max_new_tokens": 1024, "do_sample": False, "num_beams": 3},
        ),
        (
            {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 5, "image_aspect_ratio": "pad"},
            3,
            {"max_new_tokens": 3, "do_sample": True, "temperature": 0.7, "top_p": 0.9},
        ),
        (
            {"temperature": 0.7, "do_sample": False},
            None,
            {"max_new_tokens": 1024, "do_sample": False},
        ),
        (
            {"do_sample": True, "top_p": None},
            None,
            {"max_new_tokens": 1024, "do_sample": True},
        ),
    ],
)
def test_options_become_arguments_of_generate(
    options: dict[str, Any], room: int | None, expected: dict[str, Any]
) -> None:
    from manyeyes.evaluation.harness.lmms_eval import generation_arguments

    assert generation_arguments(options, room) == expected


def test_text_is_cut_at_the_first_stop_string() -> None:
    from manyeyes.evaluation.harness.lmms_eval import cut

    assert cut("a. b\n\nc", ["\n\n", ". "]) == "a"
    assert cut("a\nb", "\n") == "a"
    assert cut("a", None) == cut("a", []) == cut("a", [""]) == "a"
