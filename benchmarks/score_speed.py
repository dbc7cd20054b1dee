"""Seconds and memory of scoring: VQA accuracy and CIDEr-D at the size of the real sets.

Files in the official layout are generated (seeded), then scored as ``manyeyes score`` does it, on
one core: 214,354 questions with 10 answers each, and 5,000 images with 5 captions each.

    python benchmarks/score_speed.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.evaluation.scorers.cider import cider_corpus
from manyeyes.evaluation.scorers.ptb import ptb_tokens

T = TypeVar("T")

QUESTIONS, QUICK_QUESTIONS = 214_354, 400
IMAGES, QUICK_IMAGES = 5_000, 40
ANSWERS, CAPTIONS = 10, 5
_VOCABULARY = 8_000
_TYPES = ("what", "how many", "is the", "what color is the", "none of the above")


def write_vqa(folder: Path, questions: int) -> tuple[Path, Path, Path]:
    """VQAv2's questions and annotations, and a predictions file that is sometimes right."""
    files = folder / "questions.json", folder / "annotations.json", folder / "answers.json"
    with files[0].open("w") as asked, files[1].open("w") as said, files[2].open("w") as answered:
        asked.write('{"data_subtype": "val2014", "questions": [')
        said.write('{"annotations": [')
        for number, rows in enumerate(vqa_rows(questions)):
            comma = ", " if number else ""
            asked.write(comma + json.dumps(rows[0]))
            said.write(comma + json.dumps(rows[1]))
            answered.write(json.dumps(rows[2]) + "\n")
        asked.write("]}")
        said.write("]}")
    return files


def vqa_rows(questions: int) -> Iterator[tuple[dict[str, Any], ...]]:
    """Question, annotation and prediction, one after the other."""
    draw = random.Random(0)
    words = [f"word{number}" for number in range(_VOCABULARY)]
    for number in range(questions):
        ids = {"image_id": number // 5, "question_id": number}
        common = draw.choice(words)
        said = [common if draw.random() < 0.7 else draw.choice(words) for _ in range(ANSWERS)]
        annotation = {
            **ids,
            "question_type": draw.choice(_TYPES),
            "answer_type": "other",
            "multiple_choice_answer": common,
            "answers": [
                {"answer": text, "answer_confidence": "yes", "answer_id": place}
                for place, text in enumerate(said, start=1)
            ],
        }
        answer = f"The {common}." if draw.random() < 0.5 else draw.choice(words)
        question = {**ids, "question": f"What is {common}, here?"}
        yield question, annotation, {"question_id": number, "answer": answer}


def time_vqa(folder: Path, questions: int) -> dict[str, float]:
    """Seconds of reading the files and of scoring, and the accuracy."""
    files = write_vqa(folder, questions)
    benchmark = get_benchmark("vqav2")
    items, reading = timed(lambda: benchmark.read_files(files[:2]))
    predictions, loading = timed(lambda: benchmark.load(files[2]))
    result, scoring = timed(lambda: benchmark.score(items, predictions))
    assert result.n == questions
    return {
        "questions": questions,
        "read": reading + loading,
        "score": scoring,
        "total": reading + loading + scoring,
        "accuracy": result.headline.value,
    }


def time_cider(images: int) -> dict[str, float]:
    """Seconds of tokenising and of CIDEr-D, and the score."""
    draw = random.Random(0)
    words = [f"word{number}" for number in range(_VOCABULARY)]

    def sentence() -> str:
        # squared: few words are frequent, as in captions
        chosen = [words[int(_VOCABULARY * draw.random() ** 2)] for _ in range(draw.randint(8, 14))]
        return f"A {' '.join(chosen)}."

    references = [[sentence() for _ in range(CAPTIONS)] for _ in range(images)]
    answers = [texts[0] if draw.random() < 0.5 else sentence() for texts in references]
    tokens, tokenising = timed(
        lambda: (
            [ptb_tokens(text) for text in answers],
            [[ptb_tokens(text) for text in texts] for texts in references],
        )
    )
    score, scoring = timed(lambda: cider_corpus(*tokens).score())
    return {
        "images": images,
        "tokenise": tokenising,
        "score": scoring,
        "total": tokenising + scoring,
        "CIDEr": score,
    }


def timed(run: Callable[[], T]) -> tuple[T, float]:
    """What ``run`` returns, and the processor seconds it took (one thread)."""
    started = time.process_time()
    found = run()
    return found, time.process_time() - started


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that it runs")
    options = parser.parse_args()
    before = peak_gib()
    with tempfile.TemporaryDirectory() as folder:
        vqa = time_vqa(Path(folder), QUICK_QUESTIONS if options.quick else QUESTIONS)
    found = {
        "vqa": vqa,
        "vqa_peak_gib": peak_gib(),
        "cider": time_cider(QUICK_IMAGES if options.quick else IMAGES),
        "peak_gib": peak_gib(),
        "imports_gib": before,
    }
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
