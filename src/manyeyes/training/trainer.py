"""``transformers.Trainer`` for stages: exact order, honest averages, whole checkpoints.

What differs from the stock trainer:
    data        an endless order cut into rank-aware micro-batches (``loader``)
    loss        several objectives, each averaged over its own unit across accumulation and ranks
    safety      a non-finite loss or gradient stops the run before the optimizer acts
    saving      light checkpoints that appear whole or not at all (``folders``)
    resuming    on any number of processes, DDP or FSDP2 (``optimizer_state``)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from manyeyes.errors import CheckpointError, NonFiniteError
from manyeyes.files import written_folder
from manyeyes.losses import OBJECTIVES
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.training.kernels import choose_attention
from manyeyes.training.loader import BatchPlan, EndlessOrder, RankBatches
from manyeyes.training.saving import folders
from manyeyes.training.saving.checksums import write_checksums
from manyeyes.training.saving.optimizer_state import (
    OPTIMIZER_FILE,
    SCHEDULER_FILE,
    gather_optimizer,
    restore_optimizer,
    restore_scheduler,
)
from manyeyes.training.saving.random_state import (
    as_the_first,
    continues_random_state,
    draw_apart,
)
from manyeyes.training.saving.resume_state import (
    DATA_STATE_FILE,
    check_trainer_state,
    read_data_state,
)
from manyeyes.training.saving.weights import whole_state
from manyeyes.training.sharding import (
    hold_scalars_as_vectors,
    name_blocks,
    reshaped_moments,
    scalars_again,
    units_of,
    use_fsdp,
)
from manyeyes.training.trainable import Assignment, parameter_groups

SCALER_FILE = "scaler.pt"


@dataclass(frozen=True)
class StageData:
    """Where a stage's samples come from.

    ``order[position]`` indexes ``dataset``; ``name`` gives the id of the sample at an index.
    """

    dataset: Dataset[Any]
    order: EndlessOrder
    collate: Callable[[Any], dict[str, Tensor]]
    name: Callable[[int], str]


class StageTrainer(Trainer):
    """Trains one stage. ``assignment`` says what learns and how, ``objectives`` weigh the loss."""

    def __init__(
        self,
        model: ManyEyesForConditionalGeneration,
        args: TrainingArguments,
        data: StageData,
        *,
        assignment: Assignment,
        objectives: Mapping[str, float],
        processor: Any = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        name_blocks(model)
        sharded = bool(args.fsdp) and args.world_size > 1
        self._scalars = hold_scalars_as_vectors(model) if sharded else frozenset[str]()
        super().__init__(
            model=model, args=args, train_dataset=data.dataset, callbacks=list(callbacks)
        )
        self.data, self.assignment, self.objectives = data, assignment, dict(objectives)
        self.processor = processor
        self.keep_best = False
        # compute_loss averages over the whole optimizer step by itself
        self.model_accepts_loss_kwargs = self.loss_is_scaled_for_ga = True
        self._offset = 0
        self._continues_random_state = True
        self._window_losses: list[Tensor] = []
        self._objective_sums: dict[str, Tensor] = {}
        self._objective_step = 0
        choose_attention(model, args)
        if args.fsdp:
            model.note_changes()  # shards cannot be compared with checkpoints

    def create_accelerator_and_postprocess(self) -> None:
        """Create the accelerator; FSDP2 also where accelerate would fall back to DDP."""
        super().create_accelerator_and_postprocess()
        if self.args.fsdp and self.args.world_size > 1:
            use_fsdp(self.accelerator, self.args)
            self.is_fsdp_enabled = True

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        """Prepare as the stock trainer; FSDP2 shards by our units."""
        with units_of(self._model) if self.args.fsdp else nullcontext():
            return super()._prepare_for_training(*args, **kwargs)

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> Any:
        """Return autocast for FSDP2, which accelerate prepares without any."""
        return self.accelerator.autocast() if self.args.fsdp else nullcontext()

    # ---- data -----------------------------------------------------------------------------

    @property
    def plan(self) -> BatchPlan:
        """How the stage's order is cut into micro-batches."""
        args = self.args
        micro, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
        return BatchPlan(micro, args.world_size, accumulation, self._offset)

    @property
    def _batches(self) -> RankBatches:
        rank, steps = self.args.process_index, self.args.max_steps
        return RankBatches(self.data.order, self.plan, rank, steps)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return this rank's micro-batches of the whole stage; resuming skips ids, not images."""
        workers = self.args.dataloader_num_workers
        return DataLoader(
            self.data.dataset,
            batch_sampler=self._batches,
            collate_fn=self.data.collate,
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor if workers else None,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
        )

    # ---- one step -------------------------------------------------------------------------

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Forward and backward of one micro-batch; remembers its loss until the step."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._window_losses.append(loss)
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the weighted sum of the stage's objectives for one micro-batch.

        Token objectives are divided by the supervised tokens of the whole optimizer step and
        multiplied by the number of ranks, because gradients are averaged over ranks; batch
        objectives are averaged over micro-batches.
        """
        outputs = model(**inputs, num_items_in_batch=num_items_in_batch, wanted=self._wanted)
        terms = {name: self._term(name, outputs) for name in self.objectives}
        for name, term in terms.items():
            total = self._objective_sums.get(name)
            self._objective_sums[name] = term.detach() if total is None else total + term.detach()
        loss = torch.stack([self.objectives[name] * term for name, term in terms.items()]).sum()
        return (loss, outputs) if return_outputs else loss

    @property
    def _wanted(self) -> list[str]:
        """Names of all intermediates that the stage's objectives read."""
        needs = (need for name in self.objectives for need in OBJECTIVES[name].needs)
        return list(dict.fromkeys(needs))

    def _term(self, name: str, outputs: Any) -> Tensor:
        objective = OBJECTIVES[name]
        if objective.per == "batch":
            return objective(outputs.trace) / self.current_gradient_accumulation_steps
        # the model has divided its own loss by the step's supervised tokens
        value: Tensor = outputs.loss * self.accelerator.num_processes
        return value

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Return the gradient norm of the step about to be taken.

        Raises:
            NonFiniteError: it, or a loss of this step, is not finite; names the step's samples.
        """
        norm = super()._get_grad_norm(model, grad_norm)
        losses = torch.stack(self._window_losses) if self._window_losses else torch.zeros(1)
        scaled = self.accelerator.scaler is not None  # fp16 skips overflowing steps by design
        bad_loss = not bool(torch.isfinite(losses).all())
        if bad_loss or not (scaled or bool(torch.isfinite(torch.as_tensor(norm)).all())):
            what = "loss" if bad_loss else "gradient"
            indices = self._batches.of_step(self.state.global_step)
            raise NonFiniteError(
                f"step {self.state.global_step + 1}: the {what} is not finite; nothing was "
                f"updated. Samples of this step: {', '.join(map(self.data.name, indices))}"
            )
        self._window_losses = []
        return norm

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Build the optimizer over the stage's parameter groups."""
        if self.optimizer is None:
            model = self._model if model is None else model
            cls, kwargs = self.get_optimizer_cls_and_kwargs(self.args, model)  # type: ignore[arg-type]
            groups = parameter_groups(
                model,
                self.assignment,
                learning_rate=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
            )
            self.optimizer = cls(groups, **kwargs)
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with the mixture's epoch, and with each objective when there are several."""
        if "loss" in logs and len(self.objectives) > 1:
            steps = max(1, self.state.global_step - self._objective_step)
            for name, total in self._objective_sums.items():
                mean = self.accelerator.reduce(total, "mean").item() / steps
                logs[f"loss_{name}"] = mean
            self._objective_sums, self._objective_step = {}, self.state.global_step
        self.state.epoch = self.samples_seen / self.data.order.epoch_length
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: the usual estimate counts frozen parts and cached features as trained."""
        return 0

    # ---- saving and resuming --------------------------------------------------------------

    @property
    def samples_seen(self) -> int:
        """Position in the stage's order after the last optimizer step."""
        return self._offset + self.state.global_step * self.plan.global_batch

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train the stage, or continue it from ``resume_from_checkpoint``.

        The model must already hold the weights of that checkpoint.

        Raises:
            CheckpointError: the checkpoint was trained on other data or in another order, or lacks
                a file that going on exactly needs.
            NonFiniteError: see ``_get_grad_norm``.
        """
        draw_apart(self.args.seed, self.args.process_index)
        if resume_from_checkpoint:
            self._go_on(Path(resume_from_checkpoint))
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _go_on(self, checkpoint: Path) -> None:
        check_trainer_state(checkpoint)
        state = read_data_state(checkpoint)
        seen = self.data.order.samples_seen(state)
        self._offset = seen - folders.step_of(checkpoint) * self.plan.global_batch
        rank, ranks = self.args.process_index, self.args.world_size
        written_by = int(state.get("world_size", ranks))
        self._continues_random_state = continues_random_state(checkpoint, written_by, rank, ranks)
        self._written_by = written_by

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Take up the random numbers of ``checkpoint``; of other processes, the first one's.

        Raises:
            CheckpointError: damaged.
        """
        if checkpoint is None:
            return
        try:
            if self._continues_random_state:
                super()._load_rng_state(checkpoint)
            elif self.args.process_index == 0:
                with as_the_first(
                    Path(checkpoint), self._written_by, self.args.world_size
                ) as folder:
                    super()._load_rng_state(None if folder is None else str(folder))
        except (OSError, RuntimeError, EOFError, UnpicklingError, LookupError, TypeError) as error:
            raise CheckpointError(f"{checkpoint}: cannot read random state ({error})") from error

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Load the scale of float16 gradients.

        Raises:
            CheckpointError: missing.
        """
        if checkpoint is not None and self.accelerator.scaler is not None:
            path = Path(checkpoint) / SCALER_FILE
            if not path.is_file():
                raise CheckpointError(f"{path} is missing: it holds the scale of fp16 gradients")
        super()._load_scaler(checkpoint)

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        """Write ``checkpoint-<step>``, whole or not at all, and drop checkpoints over the limit.

        Raises:
            WriteError: the disk is full or refuses; earlier checkpoints are intact.
        """
        home = Path(str(self.args.output_dir))
        target = home / f"checkpoint-{self.state.global_step}"
        state = scalars_again(whole_state(self._model), self._scalars)
        optimizer = gather_optimizer(self._model, self._optimizer)
        optimizer = reshaped_moments(optimizer, self._scalars, ())
        writes = self.args.should_save
        unfinished = folders.unfinished(target)
        with written_folder(target, aside=unfinished) if writes else nullcontext():
            self.accelerator.wait_for_everyone()
            self._save_rng_state(str(unfinished))
            if writes:
                self._write_state(unfinished, state, optimizer)
            self.accelerator.wait_for_everyone()
            if writes:
                write_checksums(unfinished)
        if writes:
            best = self.state.best_global_step if self.keep_best else None
            folders.keep_newest(home, self.args.save_total_limit, best)
            if self.args.push_to_hub:
                self._push_from_checkpoint(str(target))

    def _write_state(
        self, folder: Path, state: Mapping[str, Tensor], optimizer: Mapping[str, Any]
    ) -> None:
        """Write everything but the ranks' random state; ``trainer_state.json`` comes last."""
        self.write_model(folder, state)
        torch.save(optimizer, folder / OPTIMIZER_FILE)
        torch.save(self._scheduler.state_dict(), folder / SCHEDULER_FILE)
        self._save_scaler(str(folder))
        data_state = self.data.order.state(self.samples_seen, self.args.world_size)
        (folder / DATA_STATE_FILE).write_text(json.dumps(data_state))
        self.state.save_to_json(str(folder / folders.STATE_FILE))

    def write_model(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write a light checkpoint of the model and its processor into ``folder``."""
        model = self.accelerator.unwrap_model(self.model)
        model.save_pretrained(folder, state_dict=state)
        if self.processor is not None:
            self.processor.save_pretrained(folder)

    @property
    def _optimizer(self) -> Optimizer:
        """The optimizer itself, without accelerate's wrapper."""
        optimizer: Any = self.optimizer
        wrapped = isinstance(optimizer, AcceleratedOptimizer)
        return cast(Optimizer, optimizer.optimizer if wrapped else optimizer)

    @property
    def _model(self) -> ManyEyesForConditionalGeneration:
        return cast(ManyEyesForConditionalGeneration, self.model)

    @property
    def _scheduler(self) -> LRScheduler:
        return cast(LRScheduler, self.lr_scheduler)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Do nothing: weights are loaded before the trainer is built, before any sharding."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load optimizer and schedule, onto whatever parallelism this run has."""
        if checkpoint is not None:
            folder = Path(checkpoint)
            vectors = partial(reshaped_moments, scalars=self._scalars, shape=(1,))
            restore_optimizer(self._model, self._optimizer, folder, vectors)
            restore_scheduler(self._scheduler, folder)
