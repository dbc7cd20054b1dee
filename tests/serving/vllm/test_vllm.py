"""Real vLLM beside ``generate``: run them with ``make vllm-test``; skipped without vLLM.

Both sides run here in float32, and pick the likeliest token each time. vLLM's attention for CPUs
takes heads of 32 and more, which the tiny language models have.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from served_fusions import Built, blocks, build, save, save_parts, spoken

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="no vLLM here"),
    pytest.mark.filterwarnings("ignore"),  # of vLLM and what it imports
]

ASKED = ((0,), (1,), (2,), (0, 1), ())
"""Images of the prompts."""
QUESTIONS = ("where?", "who is it?")
"""Instead of the prompt, for a fusion that reads the question."""
NEW_TOKENS = 12

Load = Callable[[Path], Any]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Load a folder into vLLM, in this process."""
    for name, value in {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory

    made = []

    def make(folder: Path) -> Any:
        engine = LLM(
            str(folder),
            dtype="float32",
            enforce_eager=True,
            max_num_seqs=4,
            limit_mm_per_prompt={"image": 2},
            disable_log_stats=True,
        )
        made.append(engine.llm_engine.engine_core)
        return engine

    yield make
    for core in made:
        core.shutdown()
    gc.collect()
    cleanup_dist_env_and_memory()


def prompt(text: str, images: list[Image.Image], **more: Any) -> dict[str, Any]:
    shown = {"multi_modal_data": {"image": images}} if images else {}
    return {"prompt": text, **shown, **more}


def answers(engine: Any, prompts: list[dict[str, Any]]) -> list[list[int]]:
    from vllm import SamplingParams

    options = SamplingParams(temperature=0, max_tokens=NEW_TOKENS)
    found = engine.generate(prompts, options, use_tqdm=False)
    return [list(one.outputs[0].token_ids) for one in found]


@torch.no_grad()
def generated(built: Built, text: str, images: list[Image.Image], **more: Any) -> list[int]:
    model, processor = built
    inputs = processor(images, [text], **more)
    ids = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)[0]
    new: list[int] = ids[inputs["input_ids"].shape[1] :].tolist()
    return new


@dataclass(frozen=True)
class Told:
    """A saved model, and prompts with what ``generate`` answers to them."""

    folder: Path
    prompts: list[dict[str, Any]]
    answers: list[list[int]]


@pytest.fixture(scope="module")
def told(
    parts: Path, pictures: list[Image.Image], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Told]:
    """What each model answers, before vLLM changes the classes of language models."""
    found = {}
    for name, block in blocks(parts).items():
        built = build(block)
        asked = [
            (spoken(built[1], "what?" + "!" * len(shown), len(shown)), [pictures[i] for i in shown])
            for shown in ASKED
        ]
        prompts = [prompt(*pair) for pair in asked]
        expected = [generated(built, *pair) for pair in asked]
        if built[1].reads_questions:
            for words in QUESTIONS:
                prompts.append(prompt(*asked[0], mm_processor_kwargs={"questions": [words]}))
                expected.append(generated(built, *asked[0], questions=[words]))
        found[name] = Told(save(built, tmp_path_factory.mktemp(name)), prompts, expected)
    return found


@pytest.mark.parametrize("name", sorted(blocks(Path())))
def test_the_same_tokens_as_generate(name: str, told: dict[str, Told], load: Load) -> None:
    model = told[name]
    assert len({tuple(ids) for ids in model.answers}) > 3, "images matter"
    engine = load(model.folder)
    assert answers(engine, model.prompts) == model.answers
    assert answers(engine, model.prompts) == model.answers, "from its caches"


@pytest.mark.usefixtures("load")
def test_the_page_runs_as_it_is_printed(
    told: dict[str, Told],
    pictures: list[Image.Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = Path(__file__).parents[3] / "docs" / "serving.md"
    (block,) = re.findall(r"<!-- vllm -->\n```python\n(.*?)```", page.read_text(), re.DOTALL)
    shutil.copytree(told["comm"].folder, tmp_path / "comm-full")
    file = tmp_path / "demo/world/images/test/000000.png"
    file.parent.mkdir(parents=True)
    pictures[0].save(file)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(block, str(page), "exec"), names)
    said = names["engine"].generate(names["asked"])[0].outputs[0]
    names["engine"].llm_engine.engine_core.shutdown()
    assert said.token_ids and capsys.readouterr().out.strip()


def test_others_are_refused_with_the_reason(
    told: dict[str, Told], load: Load, tmp_path: Path
) -> None:
    shutil.copytree(told["comm"].folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    left_out = {"language_model": {"checkpoint": "elsewhere", "sha256": "0"}}
    file.write_text(json.dumps({**config, "references": left_out}))
    with pytest.raises(Exception, match="its folder leaves out the frozen parts") as found:
        load(tmp_path)
    assert "--self-contained" in str(found.value)
