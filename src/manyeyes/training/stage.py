"""One stage of a run, from the weights it starts with to its last checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import PrinterCallback, ProgressCallback, TrainingArguments

from manyeyes.checkpoints import hub
from manyeyes.data.annotations.objects import ObjectTable
from manyeyes.data.opened_images import ImageOpener
from manyeyes.errors import RecipeError, UsageError
from manyeyes.files import write_json
from manyeyes.layers.attention.packed import pack_attention
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.recipes import Recipe, StageRecipe, WeightSource
from manyeyes.recipes.training_fields import GROUPED, STRATEGY, on_this_machine
from manyeyes.training import build
from manyeyes.training.arguments import global_batch, rank, training_arguments
from manyeyes.training.callbacks import (
    JsonlLog,
    ReportSteps,
    SaveAtEnd,
    ScaleCheck,
    StageProgress,
    StopOnSignal,
)
from manyeyes.training.kernels import set_attention, speed_up
from manyeyes.training.loader import EndlessOrder
from manyeyes.training.lora import prepare_lora
from manyeyes.training.opened import open_together
from manyeyes.training.packing import packed, packs
from manyeyes.training.precomputed.channel_statistics import measure_statistics
from manyeyes.training.precomputed.encoder_store import StorePlace
from manyeyes.training.precomputed.features import cached_dataset
from manyeyes.training.precomputed.objects import look_at
from manyeyes.training.quantization import check_quantized, quantize
from manyeyes.training.ranks import wait_for_ranks
from manyeyes.training.saving import folders
from manyeyes.training.saving.checksums import check_checksums
from manyeyes.training.saving.results import stage_results
from manyeyes.training.saving.resume_state import read_object
from manyeyes.training.sharding import forget_stage
from manyeyes.training.trainable import Assignment, assign, freeze
from manyeyes.training.trainer import StageData, StageTrainer
from manyeyes.training.validation.rows import HeldOut
from manyeyes.training.validation.validate import Score, Validate

logger = logging.getLogger(__name__)

RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class RunOptions:
    """What a run takes besides its recipe.

    ``data_dir``: folder of the recipe's relative data paths. ``skip_bad_rows``: leave out broken
    rows and unreadable images, counted and named, instead of refusing them. ``trackers``: reporting
    integrations besides TensorBoard (``wandb``, ``trackio``). ``progress``: called with the stage,
    its steps done and its steps in all, in place of the bar on a terminal. ``features_dir``: where
    stored encoder outputs lie, ``out_dir/features`` by default. ``features_gb``: store them in
    every stage, ``cache_features`` or not, and let the folder hold no more. ``score``: answers and
    scores the benchmarks of a stage's ``eval``. ``opener``: opens every
    image of ``skip_bad_rows``, once for all stages.
    """

    out_dir: Path
    data_dir: Path | None = None
    resume: bool = False
    skip_bad_rows: bool = False
    trackers: tuple[str, ...] = ()
    progress: Callable[[str, int, int], None] | None = None
    features_dir: Path | None = None
    features_gb: float | None = None
    score: Score | None = None
    opener: ImageOpener = field(default_factory=lambda: ImageOpener(open_together), repr=False)

    @property
    def features(self) -> Path:
        """Folder of what frozen encoders give, and of what frozen detectors found."""
        return self.features_dir or self.out_dir / "features"

    def place(self, spec: StageRecipe) -> StorePlace | None:
        """Return where a stage keeps what frozen encoders give; None = it encodes at every step."""
        folder = self.features
        if self.features_gb is not None:
            return StorePlace(folder, self.features_gb, shared=True)
        return StorePlace(folder, spec.cache_max_gb) if spec.cache_features else None


class Stage:
    """What learns, which objectives, which data, which arguments; and where its files lie."""

    def __init__(self, recipe: Recipe, spec: StageRecipe, options: RunOptions) -> None:
        self.recipe, self.spec, self.options = recipe, spec, options
        self.folder = options.out_dir / spec.name
        self.position = recipe.stages.index(spec)
        self.seed = recipe.seed + self.position if spec.seed is None else spec.seed

    @property
    def is_finished(self) -> bool:
        """Whether the stage was trained to its end."""
        return (self.folder / RESULTS_FILE).is_file() and self.last_checkpoint is not None

    @property
    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint, or None."""
        found = folders.checkpoints(self.folder)
        return found[-1] if found else None

    @property
    def result_checkpoint(self) -> Path | None:
        """What the stage ends with: its last checkpoint, or with ``keep_best`` its best one."""
        last = self.last_checkpoint
        if last is None or self.spec.eval is None or not self.spec.eval.keep_best:
            return last
        best = read_object(last / folders.STATE_FILE).get("best_global_step")
        found = self.folder / f"checkpoint-{best}"
        return found if found.is_dir() else last

    def run(self) -> None:
        """Train the stage to its end, or on from its last checkpoint, and write its results.

        Raises:
            KeyboardInterrupt: stopped by Ctrl-C or SIGTERM, after saving.
        """
        if rank() == 0:
            folders.remove_unfinished(self.folder)
        checkpoint = self.last_checkpoint if self.options.resume else None
        trainer, mixture = self.prepare(checkpoint)
        started = time.monotonic()
        self._train(trainer, checkpoint)
        if rank() == 0:
            figures = {**_figures(trainer), "seconds": round(time.monotonic() - started, 1)}
            entry = stage_results(self.spec.name, mixture.reports, figures)
            write_json(self.folder / RESULTS_FILE, entry)
        wait_for_ranks()

    def prepare(self, checkpoint: Path | None = None) -> tuple[StageTrainer, build.StageMixture]:
        """1. weights  2. what learns  3. data  4. arguments  5. the trainer over them."""
        model, processor = self._load(checkpoint)
        packs(self.spec, model.config)  # or says why not, before anything else is done
        prepare_lora(model, self.spec.train, seed=self.seed)
        assignment = assign(model, self.spec.train)
        freeze(model, assignment)
        check_quantized(model, self.recipe.quantization, assignment)
        build.cast_frozen(model, build.DTYPES[self.recipe.dtype])
        quantize(model, self.recipe.quantization, self._compute)
        mixture = self._read(model, processor, self.spec)
        forget_stage()
        args = self._arguments(mixture, assignment)
        measure_statistics(model, processor, mixture.mixture, args.device)
        data = self._data(mixture, model, processor, args)
        return self._trainer(model, processor, args, data, assignment), mixture

    @property
    def _compute(self) -> torch.dtype:
        half = on_this_machine(self.spec.training).get("bf16")
        return torch.bfloat16 if half else torch.float32

    def _load(
        self, checkpoint: Path | None
    ) -> tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]:
        """Weights to start with: the stage's own, the declared ones, or those of the stage before.

        Raises:
            UsageError: an earlier stage has not been trained to its end.
            CheckpointError: a file of the checkpoint is damaged.
        """
        if checkpoint is not None:
            check_checksums(checkpoint)
            return build.continued_model(checkpoint)
        sources = self.spec.start
        if not sources and self.position and not self.spec.fresh:
            before = self.recipe.stages[self.position - 1]
            if not self.spec.model and not before.model:
                return build.continued_model(self._checkpoint_of(before.name))
            sources = [WeightSource(stage=before.name)]
        weights = [
            (
                hub.weights_folder(s.checkpoint)
                if s.checkpoint
                else self._checkpoint_of(str(s.stage)),
                s,
            )
            for s in sources
        ]
        return build.new_model(self.recipe, self.spec, weights)

    def _checkpoint_of(self, name: str) -> Path:
        stage = Stage(self.recipe, self.recipe.stage(name), self.options)
        result = stage.result_checkpoint
        if not stage.is_finished or result is None:
            raise UsageError(
                f"stage {self.spec.name!r} starts from stage {name!r}, which is not finished in "
                f"{self.options.out_dir}; train that first"
            )
        check_checksums(result)
        return result

    def _read(
        self,
        model: ManyEyesForConditionalGeneration,
        processor: ManyEyesProcessor,
        spec: StageRecipe,
    ) -> build.StageMixture:
        def look(paths: list[str]) -> ObjectTable:
            return look_at(model, processor, paths, self.options.features / "objects")

        mixture = build.read_mixture(
            spec,
            self.options.data_dir,
            seed=self.seed,
            global_batch=global_batch(self.spec),
            skip_bad_rows=self.options.skip_bad_rows,
            open_images=self.options.opener,
            look=look,
        )
        for report in mixture.reports:
            if report.broken or report.excluded:
                logger.warning("%s", report.summary())
        return mixture

    def _arguments(self, mixture: build.StageMixture, assignment: Assignment) -> TrainingArguments:
        # without gradient: blocks of a trained encoder beyond the levels in use, and a text side
        # whose last states nobody reads
        partly = ("encoders.", "fusion.text.")
        unused = any(a and name.startswith(partly) for name, a in assignment.items())
        return training_arguments(
            self.spec,
            self.folder,
            seed=self.seed,
            epoch_length=len(mixture.mixture),
            find_unused=unused,
            trackers=self.options.trackers,
        )

    def _data(
        self,
        mixture: build.StageMixture,
        model: ManyEyesForConditionalGeneration,
        processor: ManyEyesProcessor,
        args: TrainingArguments,
    ) -> StageData:
        dataset: Dataset[Any] | None = None
        place = self.options.place(self.spec)
        if place is not None:
            dataset = cached_dataset(
                mixture.mixture,
                model,
                processor,
                place,
                dtype=torch.bfloat16 if args.bf16 else torch.float32,
                device=args.device,
                augment=build.text_augmentation(processor),
                seed=self.seed,
            )
        if dataset is None:
            dataset = build.plain_dataset(mixture.mixture, processor, seed=self.seed)
        by_length = self.spec.training.get(STRATEGY) == GROUPED
        grouped = global_batch(self.spec) if by_length else None
        order = EndlessOrder(mixture.sampler(self.seed, grouped))
        packing = packs(self.spec, model.config)
        collate = packed(processor.collate) if packing else processor.collate
        return StageData(dataset, order, collate, mixture.sample_id)

    def _trainer(
        self,
        model: ManyEyesForConditionalGeneration,
        processor: ManyEyesProcessor,
        args: TrainingArguments,
        data: StageData,
        assignment: Assignment,
    ) -> StageTrainer:
        validate = self._validation(model, processor, data)
        trainer = StageTrainer(
            model,
            args,
            data,
            assignment=assignment,
            objectives=self.spec.objectives,
            processor=processor,
            callbacks=[JsonlLog(self.folder / "log.jsonl"), SaveAtEnd(), ScaleCheck()],
        )
        set_attention(model, self.recipe)
        if packs(self.spec, model.config):
            pack_attention(model.language_model)
        speed_up(model.language_model, args, self.spec.training)
        # the stock callbacks print to stdout, which belongs to the command's own output
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        if validate is not None:
            validate.attach(trainer)
            trainer.add_callback(validate)
        if self.options.progress is not None:
            trainer.add_callback(ReportSteps(self.spec.name, self.options.progress))
        elif not args.disable_tqdm:
            trainer.add_callback(StageProgress())
        return trainer

    def _validation(
        self,
        model: ManyEyesForConditionalGeneration,
        processor: ManyEyesProcessor,
        data: StageData,
    ) -> Validate | None:
        """Return what measures while the stage trains, over rows read now.

        Raises:
            UsageError: benchmarks, but nobody who scores them.
        """
        spec, held_out = self.spec.eval, None
        if spec is None:
            return None
        if spec.benchmarks and self.options.score is None:
            raise UsageError(
                f"stages.{self.spec.name}.eval.benchmarks: pass `score` to train(); the command "
                "`manyeyes train` does"
            )
        if spec.benchmarks and self.spec.training.get("fsdp"):
            raise RecipeError(
                f"stages.{self.spec.name}.eval.benchmarks: shards do not answer questions; leave "
                "out `benchmarks` or `fsdp`"
            )
        if spec.data:
            changes = {"data": spec.data, "mixture": "concatenate"}
            rows = self._read(model, processor, self.spec.model_copy(update=changes)).mixture
            held_out = HeldOut(
                build.plain_dataset(rows, processor, seed=self.seed),
                len(rows),
                data.collate,
                int(self.spec.training.get("per_device_train_batch_size", 8)),
                spec.limit,
            )
        return Validate(spec, held_out, self.options.score, self.folder / "eval")

    def _train(self, trainer: StageTrainer, checkpoint: Path | None) -> None:
        stopper = StopOnSignal()
        trainer.add_callback(stopper)
        try:
            trainer.train(None if checkpoint is None else str(checkpoint))
        finally:
            stopper.restore()
        if stopper.stopped:
            raise KeyboardInterrupt(
                f"stopped after step {trainer.state.global_step} of stage {self.spec.name!r}; the "
                "state is saved, --resume continues it"
            )


def _figures(trainer: StageTrainer) -> dict[str, Any]:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    parameters = list(trainer.model.parameters()) if trainer.model is not None else []
    best = {"step": trainer.state.best_global_step, "value": trainer.state.best_metric}
    return {
        **({} if trainer.state.best_metric is None else {"best": best}),
        "steps": trainer.state.global_step,
        "samples": trainer.samples_seen,
        "loss": losses[-1] if losses else None,
        "parameters": {
            "total": sum(parameter.numel() for parameter in parameters),
            "trained": sum(p.numel() for p in parameters if p.requires_grad),
        },
    }
