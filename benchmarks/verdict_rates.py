"""How often `manyeyes compare` claims a difference between equal arms, in simulated studies.

    python benchmarks/verdict_rates.py --studies 1000

Every study asks 4 questions about each of 200 images. Answers follow from the difficulty of image
and question, from the seed (a normal shift of SD 0, 0.06 or 0.2 for all its answers), and from
chance. Two arms: p below 0.05 for the one pair. Four arms: the smallest p of six pairs after Holm.
One noisy pair: two arms whose seeds differ with SD 0.3 beside four whose seeds do not differ; p of
that pair alone, and after Holm for all 15 pairs.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np

from manyeyes.evaluation.confidence.crossed import crossed_difference, seed_noise
from manyeyes.evaluation.confidence.families import holm
from manyeyes.evaluation.confidence.intervals import FloatArray

IMAGES, EACH = 200, 4
CLUSTERS = [str(image) for image in range(IMAGES) for _ in range(EACH)]
SEEDS = (2, 3, 5)


def simulate(rng: np.random.Generator, seeds: int, spreads: list[float]) -> list[FloatArray]:
    """Return the scores ``[S, n]`` of equal arms; ``spreads``: SD of each arm's seeds."""
    difficulty = rng.normal(0, 1, (1, IMAGES, 1)) + rng.normal(0, 1, (1, IMAGES, EACH))
    tables = []
    for spread in spreads:
        of_seed = rng.normal(0, spread, (seeds, 1, 1))
        chance = rng.normal(0, 0.7, (seeds, IMAGES, EACH))
        tables.append((difficulty + of_seed + chance > 0).astype(float).reshape(seeds, -1))
    return tables


def judge(tables: list[FloatArray]) -> list[float]:
    """Return p of every pair, the first against the second arm first."""
    noise = seed_noise(tables)
    pairs = itertools.combinations(tables, 2)
    return [crossed_difference(a, b, CLUSTERS, noise).p for a, b in pairs]


def smallest(p: list[float]) -> float:
    """The smallest p after Holm."""
    return min(holm({str(i): value for i, value in enumerate(p)}).values())


def main() -> None:
    """Print the tables of docs/comparing.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=11)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)

    def share(seeds: int, spreads: list[float], *, family: bool) -> float:
        found = (judge(simulate(rng, seeds, spreads)) for _ in range(given.studies))
        return 100 * float(np.mean([(smallest(p) if family else p[0]) < 0.05 for p in found]))

    for spread in (0.0, 0.06, 0.2):
        two = [share(seeds, [spread] * 2, family=False) for seeds in SEEDS]
        four = [share(seeds, [spread] * 4, family=True) for seeds in SEEDS]
        print(f"SD {spread}: two arms {two}, four arms {four}", flush=True)
    mixed = [0.3, 0.3, 0.0, 0.0, 0.0, 0.0]
    alone = [share(seeds, mixed, family=False) for seeds in SEEDS]
    whole = [share(seeds, mixed, family=True) for seeds in SEEDS]
    print(f"one noisy pair: alone {alone}, any of 15 pairs after Holm {whole}")


if __name__ == "__main__":
    main()
