"""Validation at certain steps of a stage: loss, scores, the best step so far, early stopping.

Weights, random numbers and the order of the data stay untouched: a run with validation learns what
it would learn without. What was best so far is in the trainer's state, so resuming knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from manyeyes.recipes import EvalRecipe
from manyeyes.training.validation.rows import HeldOut

LOSS = "loss"
Score = Callable[[Any, Any, EvalRecipe, Path], Mapping[str, float]]
"""(model, processor, what to validate, folder of the answers) → benchmark → score, high = good."""


class Validate(TrainerCallback):
    """Measures every ``spec.every`` steps and after the last; ``attach`` names the trainer."""

    def __init__(
        self, spec: EvalRecipe, held_out: HeldOut | None, score: Score | None, folder: Path
    ) -> None:
        self.spec, self.held_out, self.score, self.folder = spec, held_out, score, folder
        self.trainer: Any = None

    def attach(self, trainer: Any) -> None:
        """Say whose model is measured."""
        self.trainer = trainer
        trainer.keep_best = self.spec.keep_best

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        step = state.global_step
        if step % self.spec.every and step < state.max_steps:
            return
        found = self._measure(step)
        logs = control.should_log
        self.trainer.log({f"eval_{name}": value for name, value in found.items()})
        control.should_log = logs  # else the step's own loss would count as logged
        value = found[self.spec.metric]
        if self._is_better(value, state.best_metric):
            state.best_metric, state.best_global_step = value, step
            control.should_save = control.should_save or self.spec.keep_best
        elif self._is_enough(step - (state.best_global_step or 0)):
            control.should_training_stop = control.should_save = True

    def _is_better(self, value: float, best: float | None) -> bool:
        if best is None:
            return True
        return value < best if self.spec.metric == LOSS else value > best

    def _is_enough(self, steps: int) -> bool:
        patience = self.spec.patience
        return patience is not None and steps >= patience * self.spec.every

    def _measure(self, step: int) -> dict[str, float]:
        trainer = self.trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        found: dict[str, float] = {}
        with measuring(model):
            if self.held_out is not None:
                found[LOSS] = mean_loss(trainer, model, self.held_out)
            score, place = self.score, self.folder / f"step-{step}"
            if score is not None and self.spec.benchmarks:
                found |= _on_first(
                    trainer, lambda: score(model, trainer.processor, self.spec, place)
                )
        return found


@contextmanager
def measuring(model: Any) -> Iterator[None]:
    """Evaluate ``model`` within a block, without gradients and on random numbers of its own."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        model.train(training)


def mean_loss(trainer: Any, model: Any, held_out: HeldOut) -> float:
    """Return the cross entropy per supervised token, over the rows of all processes."""
    args = trainer.args
    total = torch.zeros(2, dtype=torch.float64, device=args.device)
    for batch, counts in held_out.batches(args.process_index, args.world_size):
        with trainer.compute_loss_context_manager():
            output = model(**trainer._prepare_inputs(batch), num_items_in_batch=1)
        if counts:
            tokens = output.trace["targets"].numel()
            total += torch.tensor([float(output.loss), tokens], device=args.device)
    loss, tokens = trainer.accelerator.reduce(total, "sum").tolist()
    return float(loss / max(1.0, tokens))


def _on_first(trainer: Any, score: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """Scores that the first process found, in every process."""
    found = [dict(score())] if trainer.args.process_index == 0 else [{}]
    if trainer.args.world_size > 1:
        torch.distributed.broadcast_object_list(found, src=0)
    return found[0]
