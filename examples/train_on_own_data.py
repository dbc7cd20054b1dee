"""Train COMM on rows of your own, then ask it about pictures that it has not seen.

    python examples/train_on_own_data.py --train my.json --images pictures --out runs/mine

``my.json`` is any file that training reads, LLaVA JSON for example. Without --train the script
draws a few pictures and takes their questions. A fifth of the pictures is held out for the test.
"""

from argparse import ArgumentParser
from pathlib import Path

from rich import print

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.data.own.folder import OwnFiles, prepare
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.evaluation.tables.table import format_table
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.recipes import load_recipe
from manyeyes.training.own.rows import own_training
from manyeyes.training.run import train
from manyeyes.world.make import make_world


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/own-data"))
    parser.add_argument("--recipe", default="comm/world")
    parser.add_argument("--steps", type=int, default=60, help="of each stage")
    args = parser.parse_args()

    if args.train is None:
        world = make_world(args.out / "drawn", images={"train": 40}, seed=0).folder
        args.train, args.images = world / "llava" / "train.json", world / "images"

    # 1. rows to train on and rows to ask; no picture is on both sides
    data = prepare(OwnFiles(train=(args.train,), images=args.images), args.out / "own-data")
    for note in data.notes():
        print(note)

    # 2. the recipe as it ships, with these rows and steps in every stage
    recipe = load_recipe(args.recipe, [f"training.max_steps={args.steps}"])
    trained = train(own_training(data).of(recipe, keep_steps=True), args.out / "run")

    # 3. the held-out questions, each scored by what its answer is
    predictor = ModelPredictor(
        ManyEyesForConditionalGeneration.from_pretrained(trained.model_dir).eval(),
        ManyEyesProcessor.from_pretrained(trained.model_dir),
    )
    scores = evaluate(predictor, list(data.benchmarks), data.folder, "test", args.out / "answers")
    print(format_table(scores))
    print("model:", trained.model_dir)


if __name__ == "__main__":
    main()
