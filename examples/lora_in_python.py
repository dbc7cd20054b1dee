"""Tune the language model with LoRA in your own script: PEFT and the Trainer of transformers.

    python examples/lora_in_python.py --steps 200 --out runs/lora

A manyeyes model is a transformers model: PEFT wraps it, ``Trainer`` trains it, and
``from_pretrained`` reads the result. A recipe says the same in three lines (docs/recipes.md).
"""

from argparse import ArgumentParser
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.data.dataset import ConversationDataset
from manyeyes.data.files import read_samples
from manyeyes.recipes import load_recipe, model_config
from manyeyes.world.make import make_world


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("runs/lora"))
    args = parser.parse_args()

    world = make_world(args.out / "world", images={"train": args.pictures}, seed=0).folder
    samples, _ = read_samples(world / "llava" / "train.json", image_root=world / "images")

    config = model_config(load_recipe("comm/world").model)
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config, seed=0, dtype=torch.float32)

    layers = r"language_model\..*\.(q_proj|v_proj)"
    beside = ["fusion", "bridge"]  # these are trained in full
    tuned = get_peft_model(model, LoraConfig(target_modules=layers, modules_to_save=beside))
    tuned.print_trainable_parameters()

    arguments = TrainingArguments(
        args.out / "trainer",
        max_steps=args.steps,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        remove_unused_columns=False,  # pixels are named after their encoders
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    dataset = ConversationDataset(samples, processor)
    Trainer(tuned, arguments, train_dataset=dataset, data_collator=processor.collate).train()

    tuned.merge_and_unload().save_pretrained(args.out / "model")
    processor.save_pretrained(args.out / "model")
    print("model:", args.out / "model")


if __name__ == "__main__":
    main()
