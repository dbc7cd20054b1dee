"""Answers on disk: appended while they are made, reused after a kill, rewritten whole at the end.

An answer is kept under a key of everything it depends on: the predictor's fingerprint, whether the
image was shown, the image file, the prompt, its boxes and points. Equal questions are asked once.

    answers.partial.jsonl               {key, raw}: while the run lasts
    predictions-BENCHMARK[.text-only].jsonl   one row per item, with key and raw, when complete
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from manyeyes.evaluation.contract import BenchmarkResult, Prediction
from manyeyes.files import naming, remove_unfinished, write_text
from manyeyes.inference.questions import Item
from manyeyes.records import PackedImage

_PARTIAL = "answers.partial.jsonl"


def item_key(item: Item, *, fingerprint: str, with_images: bool, ranked: bool = False) -> str:
    """Hash of everything an answer depends on, 32 hexadecimal digits.

    ``ranked``: the answer is the likelihoods of the item's candidates.
    """
    parts: list[Any] = [fingerprint, item.answer, item.prompt, item.boxes, item.size]
    parts += [item.points] if item.points else []
    parts += [item.candidates] if ranked else []
    parts += [[asdict(turn) for turn in item.before]] if item.before else []
    parts += [part for image in item.images for part in _image_state(image)] if with_images else []
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _image_state(image: str) -> list[Any]:
    """What tells whether an image is still the same one."""
    if isinstance(image, PackedImage):
        return [str(image), hashlib.sha256(image.read()).hexdigest()]
    state = os.stat(image)
    return [os.path.abspath(image), state.st_size, state.st_mtime_ns]


class AnswerStore:
    """Raw answers by key in an output folder; use as a context manager.

    Raises:
        WriteError: the folder cannot be written to.
    """

    def __init__(self, out_dir: str | Path) -> None:
        self.out_dir = Path(out_dir)
        self._answers: dict[str, str] = {}
        self._stream: TextIO | None = None

    def __enter__(self) -> AnswerStore:
        with naming(self.out_dir):
            self.out_dir.mkdir(parents=True, exist_ok=True)
            remove_unfinished(self.out_dir)
            for path in [*sorted(self.out_dir.glob("predictions-*.jsonl")), self._partial]:
                self._answers.update(_stored_answers(path))
            # a kill may have left half a line; the next row must start on its own
            torn = self._partial.is_file() and not self._partial.read_bytes().endswith(b"\n")
            self._stream = self._partial.open("a", encoding="utf-8")
            self._stream.write("\n" if torn else "")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            with suppress(OSError):  # every answer was put on disk when it was added
                self._stream.close()
        if kind is None:
            self._partial.unlink(missing_ok=True)

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def __getitem__(self, key: str) -> str:
        return self._answers[key]

    def add(self, answers: Mapping[str, str]) -> None:
        """Append answers and put them on disk."""
        if self._stream is None:
            raise RuntimeError("an AnswerStore is written to inside its with block")
        with naming(self._partial):
            self._stream.writelines(_line({"key": k, "raw": raw}) for k, raw in answers.items())
            self._stream.flush()
            os.fsync(self._stream.fileno())
        self._answers.update(answers)

    @property
    def _partial(self) -> Path:
        return self.out_dir / _PARTIAL


def prediction_rows(
    items: Sequence[Item],
    keys: Sequence[str],
    raw: Sequence[str],
    predictions: Mapping[str, Prediction],
    result: BenchmarkResult,
    data_dir: str | Path,
) -> Iterator[dict[str, Any]]:
    """One JSON row per item, in order; image paths are relative to the data folder."""
    for item, key, text in zip(items, keys, raw, strict=True):
        row: dict[str, Any] = {
            "id": item.id,
            "image": os.path.relpath(item.image, data_dir),
            "prompt": item.prompt,
            "prediction": predictions[item.id],
            "references": list(item.references),
            "score": result.per_item.get(item.id),
            "groups": dict(item.groups),
            "raw": text,
            "key": key,
        }
        if item.target is not None:
            row["target"] = list(item.target)
        if item.boxes:
            row["boxes"] = item.boxes
        if item.points:
            row["points"] = item.points
        if item.more_images:
            row["more_images"] = [os.path.relpath(image, data_dir) for image in item.more_images]
        if item.before:
            row["before"] = [{"role": turn.role, "text": turn.text} for turn in item.before]
        yield row


def rows_file(benchmark: str, *, with_images: bool) -> str:
    """Return the name of the file of a benchmark's rows."""
    return f"predictions-{benchmark}{'' if with_images else '.text-only'}.jsonl"


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines under a temporary name, then rename; WriteError if that fails."""
    write_text(path, "".join(_line(row) for row in rows))


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _stored_answers(path: Path) -> Iterator[tuple[str, str]]:
    """Answers of a file of rows; rows that a kill left torn are passed over."""
    if not path.is_file():
        return
    with path.open("rb") as stream:
        for data in stream:
            try:
                row = json.loads(data)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("key"), str) and "raw" in row:
                yield row["key"], str(row["raw"])
