"""The blocks inside a stage: what learns and how, which data, which weights, which validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

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


class PartTraining(Block):
    """Arguments of the parameters under one pattern of ``train``; None = the stage's own value.

    learning_rate: the highest one, which the schedule scales. weight_decay: AdamW's. lora: learn
    LoRA on the part of that name, and nothing else of it.
    """

    later = frozenset({"lora"})

    learning_rate: float | None = Field(default=None, ge=0)
    weight_decay: float | None = Field(default=None, ge=0)
    lora: LoraOptions | None = None

    @field_validator("lora", mode="before")
    @classmethod
    def _lora_block(cls, value: Any) -> Any:
        return parse_options(LoraOptions, value, "lora") if isinstance(value, Mapping) else value


class ObjectSource(Block):
    """Detected objects of a source's images, for perception text.

    ``path``: a file in COCO's layout, detections or annotations; None = the model's own detector
    looks at the images once, before the stage. ``use``: each image's objects as ``given``, or for
    comparison another image's (``shuffled``) or none at all (``empty``).
    """

    path: str | None = None
    use: Use = "given"


class TagsSource(Block):
    """Where the tags of a source's images come from: a tags ``file``, see ``manyeyes tag``.

    ``use``: as ``given``, ``shuffled`` among the images of the file, or ``empty`` (no file needed).
    """

    file: str | None = None
    use: Use = "given"

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
    """One data file of a stage's mixture.

    ``path``: the file, relative to the data folder or absolute; also shards by a range of numbers.
    ``format``: a key of ``READERS``, or ``auto``, found by content. ``image_root``: where the image
    paths in it start; by default the file's folder. ``weight`` is the share of samples drawn from
    this file (relative to the other weights); ``limit`` keeps its first rows only. ``annotations``,
    ``image_name``, ``split``, ``full_answer``, ``refine`` and ``caption_prompt`` are for formats
    that need them (see ``SourceOptions``). ``objects``: see ``ObjectSource``; a text is its path.
    ``exclude`` names files of evaluation sets; rows with one of their images are left out.
    ``tags``: a tags file, or a block, see ``TagsSource``.
    """

    later = frozenset({"caption_prompt"})

    path: str
    format: str = "auto"
    image_root: str | None = None
    weight: float = Field(default=1.0, gt=0)
    limit: int | None = Field(default=None, ge=1)
    annotations: str | None = None
    image_name: str | None = None
    split: str | None = None
    full_answer: bool = False
    refine: bool = False
    caption_prompt: str | None = None
    objects: ObjectSource | None = None
    exclude: tuple[str, ...] = ()
    tags: TagsSource | None = None

    @field_validator("objects", mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class WeightSource(Block):
    """Where a stage takes weights from: an earlier ``stage`` of the run or a ``checkpoint`` folder.

    ``rename`` maps prefixes of stored parameter names to prefixes in this stage's model (LION moves
    ``adapters.0`` of stage 1 to ``adapters.1``); ``only`` keeps the stored names under one pattern.
    ``format``: whose files a checkpoint holds: ours, Hugging Face's BLIP-2 or InstructBLIP, or
    BERT's, as the start of a Q-Former; both keys then see our names.
    """

    stage: str | None = None
    checkpoint: str | None = None
    format: Literal["manyeyes", "blip2", "instructblip", "bert"] = "manyeyes"
    rename: dict[str, str] = {}
    only: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_origin(self) -> WeightSource:
        if (self.stage is None) == (self.checkpoint is None):
            raise ValueError("give either `stage` or `checkpoint`")
        return self


class EvalRecipe(Block):
    """Validation while a stage trains: after ``every`` steps and at its end.

    data: files like the stage's own, of which the loss is measured. benchmarks: scored on the files
    of ``split``. limit: at most so many rows of ``data``, and items of each benchmark. metric:
    ``loss``, or the benchmark that decides which step is best. keep_best: keep the checkpoint of
    that step, and let it be what the stage ends with. patience: stop after so many validations
    without a better one.
    """

    data: list[DataSource] = []
    every: int = Field(ge=1)
    limit: int | None = Field(default=None, ge=1)
    benchmarks: tuple[str, ...] = ()
    split: str = "val"
    metric: str = "loss"
    keep_best: bool = False
    patience: int | None = Field(default=None, ge=1)

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
