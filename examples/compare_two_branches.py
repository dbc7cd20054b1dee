"""Compare two visual branches: the same data, budget, seeds and questions, and a verdict.

    python examples/compare_two_branches.py --seeds 3 --steps 300 --out study

The arms are CLIP alone and COMM, which adds DINOv2. The report is OUT/report.html. A stopped study
goes on with the same command. Two recipes of your own are compared in the same way.
"""

from argparse import ArgumentParser
from pathlib import Path

from manyeyes.study.comparison.compare import Settings, compare
from manyeyes.study.trials.budget import Budget
from manyeyes.study.trials.contestants import Contestant
from manyeyes.world.make import make_world

ARMS = [
    Contestant("CLIP", "clip/world"),
    Contestant("CLIP and DINOv2", "comm/world"),
]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="of each arm, over all its stages")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--questions", type=int, default=200, help="of each benchmark")
    parser.add_argument("--out", type=Path, default=Path("study"))
    args = parser.parse_args()

    data = make_world(args.out / "world", images=args.pictures, seed=0).folder
    settings = Settings(
        seeds=args.seeds,
        budget=Budget("steps", args.steps),
        data_dir=data,
        benchmarks=("vqa", "rec"),
        limit=args.questions,
    )
    study = compare(ARMS, args.out, settings, note=print)

    for verdict in study.summary.verdicts:
        asked = verdict.question
        print(f"{asked.challenger} against {asked.reference} on {asked.benchmark}:", end=" ")
        print(f"{verdict.verdict}, {verdict.difference:+.1f} points, 95 % {verdict.ci95}")
    print("report:", args.out / "report.html")


if __name__ == "__main__":
    main()
