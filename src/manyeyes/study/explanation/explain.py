"""One answer about one image, and what it came from: attention maps, and beside them masking.

Attention says where a fusion's queries looked, not what the answer depended on: weights can be
high where nothing is used, and later layers mix what was read. So the same question is asked again
with each encoder masked and with the tags and objects of the prompt left out, and the answer given
first is scored each time.

    changed part    how       the model then gets
    an encoder      zero      zeros in place of its features
                    mean      the mean over the image's own patches at every place
                    blank     what it makes of a plain picture of the image's mean colour
    tags, objects   empty     a prompt that names none
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from manyeyes.conversation.boxes import parse_boxes
from manyeyes.conversation.rendering import checked_question
from manyeyes.data.annotations.objects import ObjectTable
from manyeyes.encoders import Encoder
from manyeyes.fusion import grid_features
from manyeyes.images.reading import image_size
from manyeyes.inference.masks import LONE_MASKS, MaskedPredictor
from manyeyes.inference.perceived import tags_from_file
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import AnswerKind, Item
from manyeyes.perception.detections import read_objects
from manyeyes.records import Box, Detections, FeatureBundle, ObjectFeatures
from manyeyes.study.explanation.attention import AttentionMap, attention_maps, frame_of, watched

CAUTION = (
    "Attention is weak evidence: it shows where the fusion looked, not what the answer depended "
    "on. Masking says what the answer depended on, for this one question."
)
"""What stands beside every attention map."""

DRAWN_SCORE = 0.5
"""Objects below it are left out, unless none reaches it; then the best `FEWEST` are kept."""
FEWEST = 3

Progress = Callable[[str, int, int | None], None]
Changed = ModelPredictor | MaskedPredictor


@dataclass(frozen=True)
class Asked:
    """The question asked with one part changed; the first, of no part, is the model as it is.

    ``log_p``: natural logarithm of the probability of the whole model's answer, its end included,
    over ``tokens`` tokens.
    """

    part: str
    how: str
    answer: str
    log_p: float
    tokens: int


@dataclass(frozen=True)
class Explanation:
    """Everything that is shown of one answer; boxes in pixels of the original image.

    ``size``: (width, height). ``frame``: the square of the image that encoders see. ``boxes``: of
    the answer. ``level_weights``: encoder → level → weight. ``maps``: none where pictures are seen
    in tiles. ``objects``: detector → what it found. ``tags``: those in the prompt; None = the model
    reads none.
    """

    image: str
    question: str
    whole: Asked
    changed: tuple[Asked, ...]
    size: tuple[int, int]
    frame: Box
    boxes: tuple[Box, ...] = ()
    level_weights: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    maps: tuple[AttentionMap, ...] = ()
    objects: Mapping[str, Detections] = field(default_factory=dict)
    tags: tuple[str, ...] | None = None

    @property
    def answer(self) -> str:
        return self.whole.answer

    @property
    def caution(self) -> str:
        """What must be said where maps are shown; nothing where there are none."""
        return CAUTION if self.maps else ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data; of a map everything but the weights."""
        shown = [
            {key: getattr(m, key) for key in ("title", "encoder", "grid", "share", "peak")}
            for m in self.maps
        ]
        masking = [
            {**vars(asked), "change": asked.log_p - self.whole.log_p} for asked in self.changed
        ]
        objects = {name: [vars(o) for o in found] for name, found in self.objects.items()}
        return {
            **{key: getattr(self, key) for key in ("image", "question", "answer", "boxes")},
            "log_p": self.whole.log_p,
            "tokens": self.whole.tokens,
            "masking": masking,
            "maps": shown,
            "level_weights": self.level_weights,
            "objects": objects,
            "tags": self.tags,
            "caution": self.caution or None,
        }


def explain(
    base: ModelPredictor,
    image: str | Path,
    question: str,
    progress: Progress | None = None,
    *,
    kind: AnswerKind = "short",
) -> Explanation:
    """Ask one question about one image, watch the fusion, and ask again with parts masked.

    ``kind`` of answer: decides how long it may get.

    Raises:
        ImageError: the file cannot be read as an image.
        UsageError: an empty question, or a reserved word in it.
        DataError: an answer too long to be scored after its prompt.
    """
    path, asked = str(image), checked_question(question)
    size = image_size(path)
    item = Item("asked", path, asked, (), path, size=size, answer=kind)
    with watched(base.model) as seen:
        (text,) = base.answer([item], with_images=True)
    answer = text.strip()
    item = replace(item, candidates=(answer,))
    changes = list(_changes(base, path))
    changed = []
    for number, (part, how, predictor) in enumerate(changes):
        if progress is not None:
            progress("masking", number, len(changes))
        (other,) = predictor.answer([item], with_images=True)
        changed.append(Asked(part, how, other.strip(), *_likelihood(predictor, item)))
    fusion, groups = base.model.fusion, parse_boxes(answer, style=base.box_style, **_sides(size))
    sites = fusion.attentions() if base.model.tiles is None else ()  # a map is of one picture
    return Explanation(
        image=path,
        size=size,
        frame=frame_of(size, base.processor.geometry),
        question=item.prompt,
        whole=Asked("", "", answer, *_likelihood(base, item)),
        changed=tuple(changed),
        boxes=tuple(box for group in groups for box in group),
        level_weights=_level_weights(fusion.level_weights(), seen.bundle),
        maps=attention_maps(sites, seen, size),
        objects=_objects(seen.bundle, size),
        tags=None if base.perceived.tags is None else base.perceived.tags.of(path),
    )


def _sides(size: tuple[int, int]) -> dict[str, int]:
    return dict(zip(("width", "height"), size, strict=True))


def _likelihood(predictor: Changed, item: Item) -> tuple[float, int]:
    """log P of the item's one candidate, and its tokens."""
    ((found,),) = predictor.rank([item], with_images=True)
    return found.total, found.tokens


def _changes(base: ModelPredictor, path: str) -> Iterator[tuple[str, str, Changed]]:
    """What is changed: each encoder and all of them by every mask, then what the prompt names."""
    modules: Any = base.model.encoders
    encoders: dict[str, Encoder] = dict(modules.items())
    for how, kind in LONE_MASKS.items():
        mask = kind(base, ())
        suited = [name for name, encoder in encoders.items() if mask.suits(encoder)]
        groups = [(name,) for name in suited] + ([tuple(suited)] if len(suited) > 1 else [])
        for names in groups:
            yield " + ".join(names), how, MaskedPredictor(base, names, mask)
    own = base.perceived
    if own.tags is not None:
        tags = tags_from_file(None, Path(), "empty")
        yield "tags", "empty", base.with_perceived(replace(own, tags=tags))
    if base.processor.perception.writer is not None:
        objects = ObjectTable({path: ()}, "no objects")
        yield "objects", "empty", base.with_perceived(replace(own, objects=objects))


def _level_weights(
    weights: Mapping[str, Tensor], bundle: FeatureBundle
) -> dict[str, dict[int, float]]:
    found = {}
    for name, values in weights.items():
        levels = grid_features(bundle, name).level_indices
        found[name] = dict(zip(levels, values.tolist(), strict=True))
    return found


def _objects(bundle: FeatureBundle, size: tuple[int, int]) -> dict[str, Detections]:
    """The likely objects of every detector, best first; see `DRAWN_SCORE`."""
    found: dict[str, Detections] = {}
    for name, features in bundle.items():
        if isinstance(features, ObjectFeatures):
            (every,) = read_objects(features, [size])
            likely = tuple(o for o in every if (o.score or 0.0) >= DRAWN_SCORE)
            found[name] = likely or every[:FEWEST]
    return found
