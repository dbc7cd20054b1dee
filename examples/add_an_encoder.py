"""Add an encoder family of your own, and train a model that sees through it and through CLIP.

    python examples/add_an_encoder.py --steps 100 --out runs/vit

A family is a class of a few lines. Here it is entered in the table by hand; a package of its own
enters it by an entry point (docs/add-an-encoder.md). The ViT of this script has random weights:
name a ``checkpoint`` in place of ``backbone`` to read real ones.
"""

from argparse import ArgumentParser
from pathlib import Path

from transformers import ViTConfig, ViTModel

from manyeyes.encoders import ENCODERS, GridEncoder
from manyeyes.recipes import load_recipe
from manyeyes.training.run import train
from manyeyes.world.make import make_world


class VitEncoder(GridEncoder):
    """``ViTModel``: one class token, then patches."""

    model_class = ViTModel
    config_class = ViTConfig
    normalization = "half"


RECIPE = """
extends: concat/world
name: clip-and-vit
model:
  encoders:
    - {name: clip, family: clip, checkpoint: "world:clip", levels: [-2], feature_norm: rms}
    - {name: vit, family: vit, levels: [-1], feature_norm: rms, backbone: {
        hidden_size: 64, intermediate_size: 128, num_hidden_layers: 4, num_attention_heads: 4,
        image_size: 64, patch_size: 8}}
stages:
  - {name: multitask, start: []}
"""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("runs/vit"))
    args = parser.parse_args()

    ENCODERS["vit"] = VitEncoder
    data = make_world(args.out / "world", images={"train": args.pictures}, seed=0).folder
    file = args.out / "recipe.yaml"
    file.write_text(RECIPE)
    recipe = load_recipe(file, [f"training.max_steps={args.steps}"])
    trained = train(recipe, args.out / "run", data_dir=data)
    print("model:", trained.model_dir)


if __name__ == "__main__":
    main()
