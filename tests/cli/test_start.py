"""Starting up: what needs no model imports none, and the Auto classes know ours all the same."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "numpy", "PIL")
MOST_MODULES = 700
"""Of which about three hundred are Python's own."""

LIGHT = """
import json, sys
sys.argv[0] = "manyeyes"
import manyeyes
from manyeyes.cli import main
codes = []
for words in (["--help"], ["--version"], ["compare", "--help"], ["recipes"], ["keys"],
              ["keys", "fusion.comm"], ["chek"], ["train", "com"], ["train", "comm/wrld"],
              ["train"]):
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        codes.append(end.code)
found = [name for name in %r if name in sys.modules]
print(json.dumps([codes, found, len(sys.modules)]), file=sys.stderr)
"""

FIRST = {
    "alone": "import manyeyes",
    "before a part of ours": "import manyeyes, manyeyes.encoders",
    "after the Auto classes": "from transformers import AutoConfig\nimport manyeyes",
    "before a model of theirs": "import manyeyes\nfrom transformers import LlavaConfig",
}
AUTO = """
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
config = AutoConfig.for_model("manyeyes")
assert manyeyes.ManyEyesConfig is type(config)
assert type(config) in AutoModelForImageTextToText._model_mapping
"""


def test_help_lists_and_wrong_words_import_no_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT % (HEAVY,)], capture_output=True, text=True, check=True
    )
    codes, found, modules = json.loads(done.stderr.splitlines()[-1])
    assert codes == [0, 0, 0, 0, 0, 0, 2, 1, 1, 2]
    assert found == []
    assert modules < MOST_MODULES


@pytest.mark.slow
@pytest.mark.parametrize("first", FIRST)
def test_the_auto_classes_know_the_model(first: str) -> None:
    subprocess.run([sys.executable, "-c", f"{FIRST[first]}\n{AUTO}"], check=True)
