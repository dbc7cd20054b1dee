"""The configuration of a whole model: encoders, fusion, bridge, language model, prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field, InstanceOf
from transformers import AutoConfig, PreTrainedConfig

from manyeyes.bridge import Given, parse_bridge
from manyeyes.conversation.boxes import BOX_STYLES
from manyeyes.conversation.fusion_text import ReaderSpec
from manyeyes.conversation.prompts import PROMPT_STYLES
from manyeyes.encoders import (
    ENCODERS,
    DetectorEncoder,
    EncoderSpec,
    GridShape,
    PixelTransform,
    Shape,
    parse_encoder,
    parse_tagger,
)
from manyeyes.errors import PartError, RecipeError
from manyeyes.fusion import FusionPlan, parse_fusion
from manyeyes.images.reading import GEOMETRIES
from manyeyes.language import (
    check_kind,
    parse_language,
    position_limit,
    read_config,
    restore_config,
)
from manyeyes.layers.adapters.lora import LoraOptions
from manyeyes.model.auto.folder_code import WritesCode, auto_map
from manyeyes.model.pictures.tiles import (
    Tiles,
    check_room,
    check_tiling,
    layout_of,
    parse_tiling,
    tiled_names,
)
from manyeyes.options import check_choice, check_type, parse_options
from manyeyes.perception.text import PerceptionOptions

_UNSAVED_FIELDS = ("transformers_version", "_name_or_path", "architectures", "dtype")


_Block = Mapping[str, Any] | None
_Channel = Annotated[int, Field(ge=0, le=255)]
_TYPES: Mapping[str, Any] = {
    "encoders": Sequence[Mapping[str, Any]],
    "fusion": _Block,
    "bridge": _Block,
    "language": _Block,
    "text_config": _Block | InstanceOf[PreTrainedConfig],
    "pad_color": Annotated[Sequence[_Channel], Field(min_length=3, max_length=3)],
    "tiling": _Block,
    "perception_text": _Block,
    "tagger": _Block,
    "max_tokens": Annotated[int, Field(ge=1)] | None,
    "image_tokens": Annotated[Sequence[int], Field(min_length=3, max_length=4)] | None,
    "references": Mapping[str, Mapping[str, Any]] | None,
    "untied": Sequence[str] | None,
    "lora": Mapping[str, Mapping[str, Any]] | None,
}


class ManyEyesConfig(WritesCode, PreTrainedConfig):
    """All that is needed to rebuild a model and its processor.

    Args:
        encoders: One block for each encoder. Their order matters to the fusion.
        fusion: ``name`` is a key of ``FUSIONS``; the other keys are that fusion's options.
        bridge: ``name`` is a key of ``BRIDGES``; the other keys are that bridge's options.
        language: The language model.
        text_config: The language model's own configuration. Read from its checkpoint when absent.
        geometry: How any image becomes square: ``pad``, ``squash`` or ``crop``.
        tiling: Cut every picture into as many tiles as suit it. By default encoders see the whole
            picture at once.
        pad_color: RGB of the padding, 0..255.
        box_style: How boxes are written in text: ``shikra``, ``lion`` or ``int1000``.
        prompt_style: How turns become one text. ``chat`` is the language model's own template; the
            others are ``vicuna_v1.1``, ``alpaca``, ``plain`` and ``blip2``.
        perception_text: How detected objects are written into the prompt. By default they are not.
        tagger: Finds the tags of images that come without any. By default nothing does.
        max_tokens: Longest training sequence, visual tokens included. Where one is too long, tags
            are left out first. Encoder-decoder models: longest prompt; the answer may be as long as
            the prompt's text beside one image. By default there is no limit.
        image_tokens: ids of ``<image>``, ``<im_start>``, ``<im_end>`` and, with a soft prompt, of
            its slot; set by ``ManyEyesProcessor.from_config``.
        answer_end: Id of the token that ends an answer besides the language model's own, where the
            prompt style has one; set by ``ManyEyesProcessor.from_config``.
        references: frozen parts that a light checkpoint does not hold: ``{part: {checkpoint,
            sha256, changed}}``, the last being what it holds of them all the same.
        untied: weights with values of their own that a part's configuration ties to others, as
            FlanT5's output head; None = not known yet. Set when the parts are built or loaded.
        lora: parts that carry LoRA, with its ``LoraOptions``; set by ``manyeyes.model.lora``.

    Raises:
        RecipeError: an unknown key or value in any block.
    """

    model_type = "manyeyes"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig}

    def __init__(
        self,
        encoders: Sequence[Mapping[str, Any]] = (),
        fusion: Mapping[str, Any] | None = None,
        bridge: Mapping[str, Any] | None = None,
        language: Mapping[str, Any] | None = None,
        text_config: PreTrainedConfig | Mapping[str, Any] | None = None,
        geometry: str = "pad",
        tiling: Mapping[str, Any] | None = None,
        pad_color: Sequence[int] = (255, 255, 255),
        box_style: str = "shikra",
        prompt_style: str = "chat",
        perception_text: Mapping[str, Any] | None = None,
        tagger: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        image_tokens: Sequence[int] | None = None,
        answer_end: int | None = None,
        references: Mapping[str, Mapping[str, Any]] | None = None,
        untied: Sequence[str] | None = None,
        lora: Mapping[str, Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        given = dict(locals())
        for key, annotation in _TYPES.items():
            check_type(f"model.{key}", given[key], annotation)
        self.encoders = [dict(encoder) for encoder in encoders]
        self.fusion = dict(fusion or {"name": "single"})
        self.bridge = dict(bridge or {"name": "placeholder"})
        self.language = dict(language or {})
        if isinstance(text_config, Mapping):
            text_config = restore_config(self.language, text_config)
        self.text_config: Any = text_config
        self.geometry, self.pad_color = geometry, list(pad_color)
        self.tiling = None if tiling is None else dict(tiling)
        self.box_style, self.prompt_style = box_style, prompt_style
        self.perception_text = None if perception_text is None else dict(perception_text)
        self.tagger = None if tagger is None else dict(tagger)
        self.max_tokens = max_tokens
        self.image_tokens = None if image_tokens is None else list(image_tokens)
        self.answer_end = answer_end
        self.references = {part: dict(entry) for part, entry in (references or {}).items()}
        self.untied = None if untied is None else list(untied)
        self.lora = {part: dict(said) for part, said in (lora or {}).items()}
        self._check()
        super().__init__(**kwargs)
        self.auto_map = auto_map()  # whatever a file said
        self.is_encoder_decoder = bool(text_config is not None and text_config.is_encoder_decoder)

    def _check(self) -> None:
        names = [spec.name for spec in self.encoder_specs()]
        if len(set(names)) != len(names):
            raise RecipeError(f"encoders: two encoders share a name: {', '.join(names)}")
        parse_fusion(self.fusion)
        parse_bridge(self.bridge)
        parse_language(self.language)
        for part, said in self.lora.items():
            parse_options(LoraOptions, said, f"lora.{part}")
        self._check_perception(names)
        parse_tiling(self.tiling, self.encoder_specs())
        if self.tagger is not None:
            parse_tagger(self.tagger)
        check_choice("model", "geometry", self.geometry, tuple(GEOMETRIES))
        check_choice("model", "box_style", self.box_style, tuple(sorted(BOX_STYLES)))
        check_choice("model", "prompt_style", self.prompt_style, tuple(PROMPT_STYLES))

    def _check_reading(self, reads: bool) -> None:
        """The fusion reads texts about objects exactly where the recipe hands them to it."""
        form = (self.perception_text or {}).get("form", "prompt")
        handed = self.perception_text is not None and form == "adapter"
        if handed != reads:
            raise PartError(
                "perception_text.form 'adapter' needs a fusion that reads it, and such a fusion "
                "needs the form: fusion 'shared_queries' with text_depth above 0"
            )

    def _check_perception(self, encoders: Sequence[str]) -> None:
        if self.perception_text is None:
            return
        options = parse_options(PerceptionOptions, self.perception_text, "perception_text")
        if options.detector is not None:
            check_choice("perception_text", "detector", options.detector, tuple(encoders))

    def encoder_specs(self) -> list[EncoderSpec]:
        """Return the checked specs of all encoders, in order."""
        return [parse_encoder(values) for values in self.encoders]

    def resolve(self) -> ManyEyesConfig:
        """Fill in every part's own configuration from its checkpoint and check that parts fit.

        Afterwards the model can be built without reading any file. Returns itself.

        Raises:
            CheckpointError: a checkpoint that cannot be found.
            PartError: parts that do not fit together.
            RecipeError: ``max_tokens`` is more than the language model reads.
        """
        for values, spec in zip(self.encoders, self.encoder_specs(), strict=True):
            backbone = ENCODERS[spec.family].read_config(spec)
            values["backbone"] = _own_fields(backbone)
        if self.text_config is None:
            self.text_config = read_config(parse_language(self.language))
        check_kind(parse_language(self.language), self.text_config)
        self._check_positions()
        self.is_encoder_decoder = bool(self.text_config.is_encoder_decoder)
        cls, _ = parse_fusion(self.fusion)
        cls.resolve(self.fusion)
        _, options = parse_fusion(self.fusion)
        cls.check(options, cls.accept(self.fused_shapes()))
        self._check_reading(self.fusion_plan.object_texts)
        self._check_tiles()
        bridge, bridge_options = parse_bridge(self.bridge)
        bridge.check(bridge_options, self.text_config, self.given)
        return self

    def _check_tiles(self) -> None:
        if self.tiling is None:
            return
        name, text = str(self.fusion["name"]), self.text_config
        check_tiling(name, self.fusion_plan, encoder_decoder=bool(text.is_encoder_decoder))
        check_room(self.visual_tokens, self.max_tokens, position_limit(text))

    def _check_positions(self) -> None:
        limit = position_limit(self.text_config)
        if limit is not None and self.max_tokens is not None and self.max_tokens > limit:
            raise RecipeError(
                f"model.max_tokens: {self.max_tokens} is more than the language model's {limit} "
                "positions (max_position_embeddings); set it to at most that"
            )

    def encoder_shapes(self) -> dict[str, Shape]:
        """Return the shape of every encoder's features by name (needs ``resolve``)."""
        return {
            spec.name: ENCODERS[spec.family].shape(spec, ENCODERS[spec.family].read_config(spec))
            for spec in self.encoder_specs()
        }

    def fused_shapes(self) -> dict[str, Shape]:
        """Return the shapes of those encoders that the fusion reads (needs ``resolve``).

        With tiling they are those of one tile.
        """
        shapes, specs = self.encoder_shapes(), self.encoder_specs()
        if self.tiling is not None:
            grid = self.tile_grid
            for spec in specs:
                shape = shapes[spec.name]
                if spec.sees == "whole" and isinstance(shape, GridShape):
                    shapes[spec.name] = replace(shape, grid=grid)
        return {spec.name: shapes[spec.name] for spec in specs if spec.fused}

    @property
    def tile_grid(self) -> tuple[int, int]:
        """The grid of one tile: of the first encoder that sees tiles (needs ``resolve``)."""
        specs = {spec.name: spec for spec in self.encoder_specs()}
        spec = specs[tiled_names([*specs.values()])[0]]
        shape = ENCODERS[spec.family].shape(spec, ENCODERS[spec.family].read_config(spec))
        if not isinstance(shape, GridShape):
            raise PartError(f"tiling: encoder {spec.name!r} gives objects, not patches")
        return shape.grid

    @property
    def tiles(self) -> Tiles | None:
        """How pictures are seen in tiles; None = they are not (needs ``resolve``)."""
        layout = self.given.tiles
        if layout is None:
            return None
        names, rules = tiled_names(self.encoder_specs()), self.pixel_transforms()
        return Tiles(max(rules[name].size[0] for name in names), names, layout)

    def pixel_transforms(self) -> dict[str, PixelTransform]:
        """Return each encoder's resize and normalisation rule by name (needs ``resolve``)."""
        return {
            spec.name: ENCODERS[spec.family].transform(
                spec, ENCODERS[spec.family].read_config(spec)
            )
            for spec in self.encoder_specs()
        }

    @property
    def visual_tokens(self) -> int:
        """The visual tokens of one image, markers not counted (needs ``resolve``).

        With tiling, the most that an image can have.
        """
        given = self.given
        return given.tokens if given.tiles is None else given.tiles.longest

    @property
    def reader(self) -> ReaderSpec | None:
        """Which text the fusion reads beside the images; None = it reads none."""
        return self.fusion_plan.text

    @property
    def target_labels(self) -> tuple[str, ...] | None:
        """Classes of the detector whose objects the fusion refines; None = it refines none."""
        name = self.fusion_plan.refines
        if name is None:
            return None
        (spec,) = (spec for spec in self.encoder_specs() if spec.name == name)
        family = ENCODERS[spec.family]
        assert issubclass(family, DetectorEncoder), "only a detector's objects are refined"
        return family.label_names(family.read_config(spec))

    @property
    def tags(self) -> str:
        """How tags stand in the prompt, one of ``tags.VARIANTS``."""
        cls, options = parse_bridge(self.bridge)
        return cls.tags(options)

    @property
    def routed(self) -> bool:
        """Whether every sample needs the route of its task type."""
        cls, options = parse_bridge(self.bridge)
        return cls.routes_samples(options)

    @property
    def given(self) -> Given:
        """What the fusion gives per image or tile, to text and layers (needs ``resolve``)."""
        plan, tiling = self.fusion_plan, parse_tiling(self.tiling, self.encoder_specs())
        tiles = None if tiling is None else layout_of(tiling, plan)
        return Given(plan.tokens, plan.prompts, plan.grid, plan.layers, tiles)

    @property
    def fusion_plan(self) -> FusionPlan:
        """What the fusion gives and reads (needs ``resolve``)."""
        cls, options = parse_fusion(self.fusion)
        return cls.planned(options, cls.accept(self.fused_shapes()))


def _own_fields(config: PreTrainedConfig) -> dict[str, Any]:
    fields = config.to_dict()
    return {key: value for key, value in fields.items() if key not in _UNSAVED_FIELDS}
