"""The blocks inside a stage: what learns and how, which data, which weights, which validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from manyeyes.errors import nearest
from manyeyes.layers.adapters.lora import LoraOptions
from manyeyes.options import parse_options
from manyeyes.records import Use


class Block(BaseModel):
    """Base of all recipe blocks: frozen, no unknown keys, nearest name in the message."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    later: ClassVar[frozenset[str]] = frozenset()
    """Keys that older records of runs do not know: written only where they say something."""

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = ", ".join(cls.model_fields)
            unknown = [
                f"unknown key {key!r}{nearest(str(key), cls.model_fields)}"
                for key in data
                if key not in cls.model_fields
            ]
            if unknown:
                raise ValueError(f"{', '.join(unknown)}; valid keys: {known}")
        return data

    @model_serializer(mode="wrap")
    def _without_later_keys(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said: dict[str, Any] = write(self)
        fields = type(self).model_fields
        return {k: v for k, v in said.items() if k not in self.later or v != fields[k].default}


Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""What NumPy and PyTorch both take, with room for one more of each stage."""


class PartTraining(Block):
    """Arguments of the parameters under one pattern of ``train``; None = the stage's own value."""

    later = frozenset({"lora"})

    learning_rate: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """The highest one, which the schedule scales."""
    weight_decay: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """AdamW's."""
    lora: LoraOptions | None = None
    """Learn LoRA on the part of that name, and nothing else of it."""

    @field_validator("lora", mode="before")
    @classmethod
    def _lora_block(cls, value: Any) -> Any:
        return parse_options(LoraOptions, value, "lora") if isinstance(value, Mapping) else value


class ObjectSource(Block):
    """Detected objects of a source's images, for perception text."""

    path: str | None = None
    """A file in COCO's layout, detections or annotations. Without it the model's own detector looks
    at every image once, before the stage."""
    use: Use = "given"
    """Each image gets its own objects (``given``), for comparison another image's (``shuffled``),
    or none (``empty``)."""


class TagsSource(Block):
    """Where the tags of a source's images come from."""

    file: str | None = None
    """A tags file, as ``manyeyes tag`` writes it."""
    use: Use = "given"
    """Each image gets its own tags (``given``), another image's (``shuffled``), or none (``empty``,
    which needs no file)."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, data: Any) -> Any:
        return {"file": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _file_if_used(self) -> TagsSource:
        if (self.file is None) != (self.use == "empty"):
            raise ValueError("give a `file`, unless `use` is empty")
        return self


class DataSource(Block):
    """One data file of a stage's mixture."""

    later = frozenset({"caption_prompt", "text_boxes"})

    path: str
    """The file, relative to the data folder or absolute. A range of numbers names several shards.
    """
    format: str = "auto"
    """A key of ``READERS``. ``auto`` finds the format by content."""
    image_root: str | None = None
    """Folder that image paths in the file start from. By default the file's own folder."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Share of samples drawn from this file, relative to the weights of the others."""
    limit: int | None = Field(default=None, ge=1)
    """Keep the first rows only, so many."""
    annotations: str | None = None
    """The second file of VQA pairs, of RefCOCO's pickles and of Visual Genome. By default it is
    found by name."""
    image_name: str | None = None
    """Pattern of image files for formats that name images by number:
    ``COCO_val2014_{image_id:012d}.jpg``."""
    split: str | None = None
    """Keep one split of a file that holds several (RefCOCO's pickles, Karpathy's JSON)."""
    full_answer: bool = False
    """GQA: train on whole sentences instead of short answers."""
    refine: bool = False
    """COCO instances: rows ask to correct a detector's objects."""
    caption_prompt: str | None = None
    """The question that captions answer, by default "Describe the image." Empty: no question."""
    text_boxes: Literal["shikra", "lion", "int1000"] | None = None
    """Boxes that stand in the texts as numbers are read as boxes: ``shikra`` for shares of the
    padded square (LLaVA's mixtures), ``lion`` for shares of the image, ``int1000``. By default they
    are words."""
    objects: ObjectSource | None = None
    """Detected objects of the images. A text is the ``path`` of the block."""
    exclude: tuple[str, ...] = ()
    """Files of evaluation sets. Rows with one of their images are left out."""
    tags: TagsSource | None = None
    """Tags of the images. A text is the ``file`` of the block."""

    @field_validator("objects", mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class WeightSource(Block):
    """Where a stage takes weights from: an earlier stage of the run, or a checkpoint."""

    stage: str | None = None
    """Name of an earlier stage of the run."""
    checkpoint: str | None = None
    """Folder or hub id of a checkpoint."""
    format: Literal["manyeyes", "blip2", "instructblip", "bert"] = "manyeyes"
    """Whose files the checkpoint holds: ours, BLIP-2's or InstructBLIP's in Hugging Face's form, or
    BERT's as the start of a Q-Former. ``rename`` and ``only`` then see our names."""
    rename: dict[str, str] = {}
    """Prefix of stored names → prefix in this stage's model. LION moves ``adapters.0`` of stage 1
    to ``adapters.1``."""
    only: tuple[str, ...] = ()
    """Take the stored names under these patterns and no others."""

    @model_validator(mode="after")
    def _one_origin(self) -> WeightSource:
        if (self.stage is None) == (self.checkpoint is None):
            raise ValueError("give either `stage` or `checkpoint`")
        return self


class EvalRecipe(Block):
    """Validation while a stage trains: every so many steps and at its end."""

    data: list[DataSource] = []
    """Files like the stage's own. The loss of their rows is measured."""
    every: int = Field(ge=1)
    """Steps between two validations."""
    limit: int | None = Field(default=None, ge=1)
    """At most so many rows of ``data``, and items of each benchmark."""
    benchmarks: tuple[str, ...] = ()
    """Benchmarks to score, on the files of ``split``."""
    split: str = "val"
    """Which files of the benchmarks."""
    metric: str = "loss"
    """Decides which step is best: ``loss``, or the name of a benchmark."""
    keep_best: bool = False
    """Keep the checkpoint of the best step, and end the stage with it."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many validations without a better one."""

    @model_validator(mode="after")
    def _metric_is_measured(self) -> EvalRecipe:
        known = [*(["loss"] if self.data else []), *self.benchmarks]
        if not known:
            raise ValueError("give `data`, whose loss is measured, or `benchmarks`")
        if self.metric not in known:
            raise ValueError(
                f"metric: {self.metric!r} is not measured{nearest(self.metric, known)}; measured: "
                f"{', '.join(known)}"
            )
        return self
