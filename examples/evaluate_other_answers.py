"""Score the answers of any project by official definitions, and compare two of them.

    python examples/evaluate_other_answers.py vqav2 ours.json theirs.json \\
        v2_OpenEnded_mscoco_val2014_questions.json v2_mscoco_val2014_annotations.json

Answers are in the benchmark's own result format; no model and no image is read. Without arguments
the script makes questions of the built-in world, and two files of answers to them.
"""

import json
import sys
from pathlib import Path
from tempfile import mkdtemp

from rich import print

from manyeyes.evaluation.answers.score import Scoring, score_file
from manyeyes.evaluation.tables.comparison import compare_predictions
from manyeyes.evaluation.tables.table import format_comparison, format_result
from manyeyes.world.make import make_world


def made_up() -> list[str]:
    """Two files of answers to a small world: every fifth one wrong, and every second one."""
    folder = Path(mkdtemp())
    world = make_world(folder / "world", images={"val": 40}, seed=0, formats=["vqa"]).folder
    files = [world / f"annotations/vqa_val_{name}.json" for name in ("questions", "annotations")]
    truth = json.loads(files[1].read_text())["annotations"]
    for name, step in (("ours", 5), ("theirs", 2)):
        rows = [
            {
                "question_id": row["question_id"],
                "answer": row["multiple_choice_answer"] if place % step else "nothing",
            }
            for place, row in enumerate(truth)
        ]
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return ["vqa", str(folder / "ours.json"), str(folder / "theirs.json"), *map(str, files)]


def main() -> None:
    benchmark, ours, theirs, *annotations = sys.argv[1:] or made_up()
    plan = Scoring(benchmark, annotations)
    first, second = score_file(plan, ours), score_file(plan, theirs)
    print(format_result(first.result, title="ours"))
    print(format_result(second.result, title="theirs"))

    # both answered the same questions, so they are compared question by question
    pair = compare_predictions(first.benchmark, first.items, first.predictions, second.predictions)
    print(format_comparison(pair))


if __name__ == "__main__":
    main()
