"""Arms that are not trained but asked, beside one that is trained."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("openai")

from manyeyes.errors import ManyEyesError, UsageError
from manyeyes.study.comparison.compare import Settings, compare
from manyeyes.study.comparison.outputs import write_outputs
from manyeyes.study.trials.asked import Asking
from manyeyes.study.trials.budget import parse_budget
from manyeyes.study.trials.contestants import Contestant
from manyeyes.study.trials.trial import load_trial
from manyeyes.world.make import make_world
from study_arms import write_recipe

pytestmark = pytest.mark.long


class Service(BaseHTTPRequestHandler):
    """Says yes, refuses what ``refused`` contains, and lets nobody in while ``closed``."""

    closed: ClassVar[bool] = False
    refused: ClassVar[str] = "\0"
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        content = body["messages"][0]["content"]
        assert [part["type"] for part in content] == ["image_url", "text"]
        text = content[-1]["text"]
        status = 401 if self.closed else 400 if self.refused in text else 200
        if status == 200:
            self.asked.append(text)
        message = {"role": "assistant", "content": "yes"}
        answer: dict[str, Any] = {"error": {"message": "not this one"}}
        if status == 200:
            answer = {"id": "1", "created": 0, "model": "m", "object": "chat.completion"}
            answer["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
            answer["usage"] = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def theirs() -> Iterator[Contestant]:
    """A model behind an API, as an arm."""
    Service.closed, Service.refused = False, "\0"
    Service.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Contestant("theirs", f"openai:http://127.0.0.1:{server.server_port}/v1#m")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "world"
    make_world(folder, images={"train": 8, "test": 6})
    return folder


@pytest.fixture
def settings(data: Path) -> Settings:
    asking = Asking(prices=(10.0, 100.0))
    budget = parse_budget("steps=2")
    return Settings(2, budget, data, ("pope", "vqa"), limit=6, asking=asking)


def test_it_answers_the_same_questions_and_is_marked(
    theirs: Contestant, settings: Settings, parts: Path, tmp_path: Path
) -> None:
    ours = Contestant("clip", write_recipe(tmp_path, parts, "clip"))
    arms, out, notes = [ours, theirs], tmp_path / "out", list[str]()
    Service.closed = True
    with pytest.raises(ManyEyesError, match=r"1 of 3 trials failed.*theirs, asked.*401"):
        compare(arms, out, settings, note=notes.append)
    assert any(note.startswith("theirs, asked failed") for note in notes)

    Service.closed, Service.refused = False, "Is there"
    done = compare(arms, out, settings)
    assert (done.run, done.kept) == (1, 2), "what was trained is kept"
    summary = done.summary
    mine, other = (summary.arm(arm.name) for arm in arms)
    for name in settings.benchmarks:
        assert other.trials[0].answers[name].keys() == mine.trials[0].answers[name].keys()
    assert other.trials[0].answers == other.trials[1].answers
    assert [trial.seed for trial in other.trials] == [0, 1]
    assert {v.question.challenger for v in summary.verdicts} <= {"clip", "theirs"}
    assert len(summary.verdicts) == 2

    asked = other.asked
    assert asked is not None and mine.asked is None
    assert len(asked.refused) > 0 and asked.requests == len(Service.asked) > 0
    ids = {one for name in settings.benchmarks for one in other.trials[0].answers[name]}
    assert asked.refused.keys() < ids
    assert asked.prompt_tokens == 7 * asked.requests
    assert asked.cost == pytest.approx((70 + 200) * asked.requests / 1e6)
    (note,) = (note for note in summary.notes if note.startswith("theirs was not trained"))
    assert f"{len(asked.refused)} were refused and count as wrong" in note

    results = json.loads((out / "results.json").read_text())
    assert results["arms"]["theirs"]["asked"]["refused"] == dict(asked.refused)
    assert "asked" not in results["arms"]["clip"]
    table, page = (out / "table.md").read_text(), (out / "report.html").read_text()
    assert "| theirs (not trained) |" in table and "theirs (not trained)" in page
    assert "GFLOP" in page, "what the trained arm costs is still shown"

    before = (out / "results.json").read_text()
    count = len(Service.asked)
    again = compare(arms, out, settings)
    assert (again.run, again.kept, len(Service.asked)) == (0, 3, count)
    assert (out / "results.json").read_text() == before
    write_outputs(out)
    assert (out / "results.json").read_text() == before

    more = compare(arms, out, replace(settings, limit=8)).summary.arm("theirs").asked
    assert more is not None and count < len(Service.asked) == more.requests, "only new questions"


def test_two_served_models_need_data_and_no_training(
    theirs: Contestant, settings: Settings, tmp_path: Path
) -> None:
    other = Contestant("other", theirs.recipe.replace("#m", "#n"))
    done = compare([theirs, other], tmp_path / "out", replace(settings, seeds=1))
    assert done.run == 2
    assert not (tmp_path / "out" / "features").exists()
    record = load_trial(tmp_path / "out" / "records" / "other" / "seed-0.json")
    assert record is not None and record.steps == 0
    with pytest.raises(UsageError, match="no arm is trained"):
        compare([theirs, other], tmp_path / "none", replace(settings, data_dir=None))
