"""What a result says about where it comes from."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

import manyeyes
from manyeyes.environment import environment


def test_versions_are_those_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    found = environment()
    assert found["manyeyes"] == manyeyes.__version__
    assert found["torch"] == torch.__version__
    assert found["transformers"] == transformers.__version__
    assert found["processes"] == 3
    assert found["commit"] is None or len(found["commit"]) == 40
    assert json.loads(json.dumps(found)) == found


def test_a_package_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manyeyes.environment.PACKAGES", ("no-such-package",))
    assert environment()["no-such-package"] is None
