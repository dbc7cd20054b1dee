"""What a processor takes from a model's configuration, and whether a saved pair still agrees.

The two files of a saved model repeat each other: a processor that differs from its model would show
it other pictures or another prompt than it was trained on, without a word.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from manyeyes.bridge import parse_bridge
from manyeyes.checkpoints.model_files import read_object
from manyeyes.errors import CheckpointError, ManyEyesError
from manyeyes.language import position_limit
from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.model.pictures.pixels import saved_rule

LATER = frozenset({"positions"})
"""Fields that older folders do not hold: None in them says nothing."""


def processor_fields(config: ManyEyesConfig) -> dict[str, Any]:
    """Return the processor's arguments that a resolved configuration decides."""
    bridge, bridge_options = parse_bridge(config.bridge)
    transforms, fused = config.pixel_transforms(), config.fused_shapes()
    return {
        "encoders": [
            {"name": name, "fused": name in fused, **vars(rule)}
            for name, rule in transforms.items()
        ],
        "visual_tokens": config.given.tokens,
        "start_end": bridge.marks_images(bridge_options),
        "geometry": config.geometry,
        "tiling": None if (tiles := config.tiles) is None else tiles.saved(),
        "pad_color": config.pad_color,
        "box_style": config.box_style,
        "prompt_style": config.prompt_style,
        "max_length": config.max_tokens,
        "positions": position_limit(config.text_config),
        "answers_in_sequence": not config.is_encoder_decoder,
        "target_labels": config.target_labels,
        "perception_text": config.perception_text,
        "routed": config.routed,
        "tags": config.tags,
    }


def check_saved_pair(folder: Path, processor: Any) -> None:
    """Check that the processor in ``folder`` is that of the model in it, where there is one.

    Raises:
        CheckpointError: they differ; names the field and both values. Or the tokenizer cannot be
            used.
    """
    file = folder / "config.json"
    if not file.is_file() or read_object(file).get("model_type") != ManyEyesConfig.model_type:
        return
    try:
        config = ManyEyesConfig.from_pretrained(folder).resolve()
    except CheckpointError:
        raise
    except ManyEyesError as error:
        raise CheckpointError(f"{file}: {error}") from error
    for key, value in _plain(processor_fields(config)).items():
        found = _plain(_own(processor, key))
        if found != value and not (key in LATER and found is None):
            raise _differ(folder, key, found, value)
    reader = config.reader
    expected = None if reader is None else {"kind": reader.kind, "length": reader.length}
    if processor.reader != expected:
        raise _differ(folder, "reader", processor.reader, expected)
    _check_tokenizer(folder, config, processor)


def _check_tokenizer(folder: Path, config: ManyEyesConfig, processor: Any) -> None:
    ids = list(processor.image_token_ids_by_role)
    if config.image_tokens is not None and ids != config.image_tokens:
        raise CheckpointError(
            f"{folder}: the tokenizer gives the image tokens the ids {ids}, config.json says "
            f"{config.image_tokens}: they belong to different models, or one is damaged"
        )
    words = int(config.text_config.vocab_size)
    probe = max(processor.tokenizer("What is it? 0 <", add_special_tokens=True)["input_ids"])
    if probe >= words:
        raise CheckpointError(
            f"{folder}: the tokenizer makes the id {probe}, but the language model knows {words}: "
            "they belong to different models, or one is damaged"
        )


def _own(processor: Any, key: str) -> Any:
    if key != "encoders":
        return getattr(processor, key)
    return [
        {"name": entry["name"], "fused": entry.get("fused", True), **vars(saved_rule(entry))}
        for entry in processor.encoders
    ]


def _differ(folder: Path, key: str, found: Any, expected: Any) -> CheckpointError:
    return CheckpointError(
        f"{folder / 'processor_config.json'}: {key} is {_short(found)}, but config.json makes it "
        f"{_short(expected)}: the files belong to different models, or one is damaged"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
