"""One long run, watched: how much memory this process holds while it trains or evaluates.

    memory_process.py train RECIPE DATA OUT
    memory_process.py evaluate MODEL DATA OUT

Writes a JSON list of [units done, resident bytes, living tensors] to standard output.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

import psutil
import torch

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.recipes import load_recipe
from manyeyes.training import train

EVERY = 50
"""Steps or items between two measurements."""


class Watch:
    """Called with what is done; measures whenever ``EVERY`` more units are."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []
        self.before, self.last = 0, 0

    def __call__(self, label: str, done: int, total: int) -> None:
        if done < self.last:  # the next benchmark, or the same without images
            self.before += self.last
        self.last = done
        units = self.before + done
        if units >= EVERY * len(self.seen):
            gc.collect()
            tensors = sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects())
            self.seen.append((units, psutil.Process().memory_info().rss, tensors))


def main(kind: str, first: str, data: str, out: str) -> None:
    torch.set_num_threads(1)
    watch = Watch()
    if kind == "train":
        train(load_recipe(Path(first)), out, data_dir=data, progress=watch)
    else:
        model = ManyEyesForConditionalGeneration.from_pretrained(first)
        processor = ManyEyesProcessor.from_pretrained(first)
        limits = {"short": 4, "long": 8}
        predictor = ModelPredictor(model, processor, batch_size=8, max_new_tokens=limits)
        evaluate(predictor, ["vqa"], data, "test", out, limit=1000, chunk=16, progress=watch)
    print(json.dumps(watch.seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
