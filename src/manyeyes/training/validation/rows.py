"""The rows of which a stage's validation measures the loss, and how processes share them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class HeldOut:
    """Rows of ``dataset`` in batches; ``limit`` keeps so many of them, evenly spaced."""

    dataset: Any
    length: int
    collate: Callable[[Any], dict[str, Any]]
    batch_size: int
    limit: int | None = None

    def places(self) -> list[int]:
        """Return which rows are measured."""
        count = min(self.length, self.limit or self.length)
        return [index * self.length // count for index in range(count)]

    def batches(self, rank: int, ranks: int) -> Iterator[tuple[dict[str, Any], bool]]:
        """Yield a process's batches, and whether each counts.

        All processes get as many, because those that share weights must go together; where one has
        fewer, the last batch comes again and does not count.
        """
        places = self.places()
        parts = [places[i : i + self.batch_size] for i in range(0, len(places), self.batch_size)]
        for first in range(0, len(parts), ranks):
            mine = first + rank
            rows = [self.dataset[place] for place in parts[min(mine, len(parts) - 1)]]
            yield self.collate(rows), mine < len(parts)
