"""Where the weights of a Q-Former lie in the files of other projects.

    lavis          BLIP-2, InstructBLIP and LION checkpoints of LAVIS, EVA ViT-g included
    blip2          Hugging Face BLIP-2 or InstructBLIP (``instructblip`` is the same)
    bert           bert-base-uncased: the usual start of a Q-Former

Each rule is (pattern, replacement); a name that no rule knows is of a part that is not ours.
Source of the names: the projects' state dicts; LION §8.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

Rules = tuple[tuple[str, str], ...]

_HEADS: Rules = (
    (r"(itm_head\..*)", r"fusion.heads.\1"),
    (r"query_tokens", "fusion.query_tokens"),
)

_BERT: Rules = (
    (r"embeddings\.(word_embeddings|position_embeddings)\.weight", r"fusion.text.\1.weight"),
    (r"embeddings\.LayerNorm\.(\w+)", r"fusion.qformer.layernorm.\1"),
    (
        r"encoder\.layer\.(\d+)\.(attention|crossattention)\.self\.(.*)",
        r"fusion.qformer.encoder.layer.\1.\2.attention.\3",
    ),
    (r"encoder\.layer\.(\d+)\.(.*)", r"fusion.qformer.encoder.layer.\1.\2"),
)

_LM_HEAD: Rules = (
    (r"cls\.predictions\.bias", "fusion.heads.lm_bias"),
    (r"cls\.predictions\.transform\.dense\.(\w+)", r"fusion.heads.lm_dense.\1"),
    (r"cls\.predictions\.transform\.LayerNorm\.(\w+)", r"fusion.heads.lm_norm.\1"),
)


def _under(prefix: str, rules: Rules) -> Rules:
    return tuple((prefix + pattern, target) for pattern, target in rules)


LAVIS: Rules = (
    *_HEADS,
    (r"ln_vision\.(\w+)", r"fusion.ln_vision.\1"),
    (r"(?:opt|t5|llm)_proj\.(\w+)", r"fusion.projector.0.\1"),
    (r"(vision|text)_proj\.(\w+)", r"fusion.heads.\1_projection.\2"),
    (r"temp", "fusion.heads.temperature"),
    *_under(r"Qformer\.bert\.", _BERT),
    *_under(r"Qformer\.", _LM_HEAD),
)

BLIP2: Rules = (
    *_HEADS,
    (r"vision_model\.post_layernorm\.(\w+)", r"fusion.ln_vision.\1"),
    (r"language_projection\.(\w+)", r"fusion.projector.0.\1"),
    (r"((?:vision|text)_projection\..*)", r"fusion.heads.\1"),
    (r"(?:qformer\.)?embeddings\.(word_embeddings|position_embeddings)\.weight",
     r"fusion.text.\1.weight"),
    (r"qformer\.(?:embeddings\.)?layernorm\.(\w+)", r"fusion.qformer.layernorm.\1"),
    (r"qformer\.(encoder\..*)", r"fusion.qformer.\1"),
)  # fmt: skip

BERT: Rules = (*_under(r"(?:bert\.)?", _BERT), *_LM_HEAD)

_OLD_NORM = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""As files converted from TensorFlow call them, bert-base-uncased among them."""

RULES: Mapping[str, Rules] = {"blip2": BLIP2, "instructblip": BLIP2, "bert": BERT, "lavis": LAVIS}
"""By the ``format`` of a stage's weight source."""


def our_name(name: str, format: str) -> str | None:
    """Return the name in our model of tensor ``name`` of a file, None if it is not ours."""
    for old, new in _OLD_NORM.items():
        name = name.removesuffix(old) + new if name.endswith(old) else name
    for pattern, target in RULES[format]:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return match.expand(target)
    return None


def our_tensors(tensors: Mapping[str, Tensor], format: str) -> dict[str, Tensor]:
    """Return what is ours among the tensors of a file, by our names.

    BERT has one feed-forward per layer, from which that of the queries starts too, and no entry for
    ``[DEC]``, which gets the mean of the others (ours; LAVIS draws it).
    """
    named = ((our_name(name, format), tensor) for name, tensor in tensors.items())
    found = {name: tensor for name, tensor in named if name is not None}
    return _from_bert(found) if format == "bert" else found


_NORM = "fusion.qformer.layernorm."
_EXPECTED: Mapping[str, tuple[str, ...]] = {
    "bert": (_NORM + "weight", _NORM + "bias", "fusion.text.word_embeddings.weight",
             "fusion.text.position_embeddings.weight"),
    **dict.fromkeys(("blip2", "instructblip", "lavis"),
                    (_NORM + "weight", _NORM + "bias", "fusion.query_tokens")),
}  # fmt: skip
"""What every file of a format holds, as far as the model has it."""


def missing_names(found: Collection[str], own: Collection[str], format: str) -> list[str]:
    """Return what a file of ``format`` should hold of our model and does not.

    ``found``: what it holds and ``own``: what the model has, by our names. A file may leave out a
    part, such as a head, but no tensor of a part: of layers that resemble each other it holds all
    or none, and so of weights and biases.
    """
    here = {_kind(name) for name in found}
    return [
        name
        for name in own
        if name not in found and (name in _EXPECTED[format] or _kind(name) in here)
    ]


def _kind(name: str) -> str:
    return re.sub(r"\.(weight|bias)$", "", re.sub(r"\d+", "*", name))


def _from_bert(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ours = dict(found)
    for name, tensor in found.items():
        queries = re.sub(r"(layer\.\d+)\.(intermediate|output)\.", r"\1.\2_query.", name)
        ours[queries] = tensor
    for name, grow in _NEW_WORD.items():
        if name in ours:
            ours[name] = grow(ours[name])
    return ours


_NEW_WORD: Mapping[str, Callable[[Tensor], Tensor]] = {
    "fusion.text.word_embeddings.weight": lambda x: torch.cat([x, x.mean(dim=0, keepdim=True)]),
    "fusion.heads.lm_bias": lambda x: torch.cat([x, x.new_zeros(1)]),
}
