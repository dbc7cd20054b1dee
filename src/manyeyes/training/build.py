"""What a stage needs before its first step: model, processor and data, from the recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from manyeyes.data.annotations.objects import ObjectTable, read_object_table, with_objects
from manyeyes.data.dataset import Augment, ConversationDataset, image_of
from manyeyes.data.files import FileReport
from manyeyes.data.mixture import Mixture
from manyeyes.data.opened_images import OpenImages, open_images
from manyeyes.data.sampler import ResumableSampler
from manyeyes.encoders import DetectorEncoder
from manyeyes.errors import ImageError
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.perception.text import augmented
from manyeyes.recipes import Recipe, StageRecipe, WeightSource, model_config, stage_model
from manyeyes.recipes.sources import LocatedSource, locate_source
from manyeyes.records import Sample
from manyeyes.training.saving.weights import take_weights

Look = Callable[[list[str]], ObjectTable]
"""Finds the objects of images by their paths."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class StageMixture:
    """The samples of a stage and what reading them found."""

    mixture: Mixture
    reports: tuple[FileReport, ...]

    def sample_id(self, index: int) -> str:
        """Return the id of the sample at an index of the data set."""
        return self.mixture.draw(*divmod(index, len(self.mixture))).id

    def sampler(self, seed: int, grouped: int | None = None) -> ResumableSampler:
        """Return the order in which the stage visits the mixture.

        ``grouped``: samples of similar length stand together, so many at a time.
        """
        return ResumableSampler(
            len(self.mixture),
            seed=seed,
            fingerprint=self.mixture.fingerprint(),
            shuffle=self.mixture.mode != "alternate",
            lengths=None if grouped is None else self.mixture.lengths,
            batch_size=grouped or 1,
        )


def new_model(
    recipe: Recipe, stage: StageRecipe, weights: list[tuple[Path, WeightSource]]
) -> tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]:
    """Return the model of a stage's start and its processor.

    ``weights``: folders to take trained weights from, in order; later ones win.

    Raises:
        RecipeError, CheckpointError, PartError: the model block, a checkpoint, parts that do not
            fit.
    """
    config = model_config(stage_model(recipe, stage))
    processor = ManyEyesProcessor.from_config(config)  # also writes the image token ids into it
    # from_parts stands in model/assembly.py
    model = ManyEyesForConditionalGeneration.from_parts(
        config, seed=recipe.seed, dtype=torch.float32
    )
    for folder, source in weights:
        take_weights(model, folder, source)
    return model, processor


def continued_model(
    folder: Path,
) -> tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]:
    """Return model and processor of a checkpoint, in float32.

    Raises:
        CheckpointError: damaged, or its frozen parts are not those it was trained with.
    """
    model = ManyEyesForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model, ManyEyesProcessor.from_pretrained(folder)


def cast_frozen(model: ManyEyesForConditionalGeneration, dtype: torch.dtype) -> None:
    """Hold what was never trained, and is loaded from its part's checkpoint, in ``dtype``.

    That is its parameters and what is stored beside them, such as the statistics of a frozen batch
    norm: all that ``from_pretrained(dtype=...)`` would load in it. Detectors that can only compute
    in float32 stay in it.
    """
    kept = tuple(
        f"encoders.{name}."
        for name, encoder in model.encoders.items()
        if isinstance(encoder, DetectorEncoder) and encoder.float32_only
    )
    state = model.state_dict(keep_vars=True)
    learning = {_module_of(name) for name, p in model.named_parameters() if p.requires_grad}
    for name in state.keys() - model.stored_names(state):
        tensor = state[name]
        learns = tensor.requires_grad
        if not isinstance(tensor, nn.Parameter):
            learns = _module_of(name) in learning  # statistics of a norm that is trained
        if tensor.is_floating_point() and not learns and not name.startswith(kept):
            tensor.data = tensor.data.to(dtype)


def _module_of(name: str) -> str:
    return name.rpartition(".")[0]


def read_mixture(
    stage: StageRecipe,
    data_dir: Path | None,
    *,
    seed: int,
    global_batch: int,
    skip_bad_rows: bool = False,
    open_images: OpenImages = open_images,
    look: Look | None = None,
) -> StageMixture:
    """Read a stage's files and mix them, without the rows whose images a source excludes.

    With ``skip_bad_rows`` every image is opened by ``open_images``, and rows whose images cannot be
    read are left out, counted and named like broken ones; no other row takes their place.
    ``look`` finds the objects of images for sources that leave that to the model.

    Raises:
        DataError: a missing file or, unless ``skip_bad_rows``, the first broken row.
        UsageError: relative paths without a data folder.
    """
    sources, reports = [], []
    for source in stage.data:
        located = locate_source(source, data_dir)
        samples, report = located.read(
            skip_bad_rows=skip_bad_rows, open_images=open_images if skip_bad_rows else None
        )
        sources.append(_with_objects(located.tagged(samples, seed), located, seed, look))
        reports.append(report)
    weighted = stage.mixture != "concatenate"
    mixture = Mixture(
        sources,
        [source.weight for source in stage.data] if weighted else None,
        seed,
        mode=stage.mixture,
        block_size=global_batch if stage.mixture == "alternate" else 1,
    )
    return StageMixture(mixture, tuple(reports))


def _with_objects(
    samples: list[Sample], source: LocatedSource, seed: int, look: Look | None
) -> list[Sample]:
    if source.objects is None:
        return samples
    if source.objects.path is not None:
        table = read_object_table(source.objects.path, source.options.image_root)
    elif look is not None:
        table = _looked_at(samples, look)
    else:
        return samples
    return with_objects(samples, table.used_as(source.objects.use, seed))


def _looked_at(samples: list[Sample], look: Look) -> ObjectTable:
    """The objects of all images; raises ``ImageError``, which names sample and path."""
    owners = {path: sample for sample in reversed(samples) for path in reversed(sample.images)}
    try:
        return look(list(reversed(owners)))
    except ImageError as error:
        if error.file not in owners:
            raise
        with image_of(owners[error.file]):
            raise


def text_augmentation(processor: ManyEyesProcessor) -> Augment | None:
    """Return what training changes in the objects that are written; None = nothing is."""
    writer = processor.perception.writer
    if writer is None:
        return None
    options = writer.options

    def augment(
        sample: Sample, images: list[Image.Image], seed: int
    ) -> tuple[Sample, list[Image.Image]]:
        return augmented(sample, options, seed), images

    return augment


def plain_dataset(
    mixture: Mixture, processor: ManyEyesProcessor, *, seed: int
) -> ConversationDataset:
    """Return the mixture with images decoded as they are drawn."""
    return ConversationDataset(mixture, processor, seed=seed, augment=text_augmentation(processor))
