"""Language models in GGUF, as llama.cpp has them: taken out of the file as an ordinary folder.

Weights are stored in few bits there. They become numbers in bfloat16 again, as near to the original
as the file is; tokenizer and chat template come from the file too.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from manyeyes.errors import CheckpointError, UsageError
from manyeyes.files import written_folder

_MAGIC = b"GGUF"


@dataclass(frozen=True)
class Taken:
    """What a file held: the language model's type, its parameters, tokens and chat template."""

    model_type: str
    parameters: int
    vocabulary: int
    chat_template: bool


def convert(file: Path, out: Path) -> Taken:
    """Write the language model in ``file`` with its tokenizer to the folder ``out``, in bfloat16.

    Raises:
        CheckpointError: no such file, not GGUF, damaged, or of a type that transformers cannot
            read from GGUF. UsageError: the package gguf is missing. WriteError: ``out`` cannot be
            written.
    """
    _check(file)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.bfloat16, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, trust_remote_code=False
        )
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        why = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{file}: cannot be read as a language model: {why}") from error
    _as_ordinary(model)
    with written_folder(out) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return Taken(
        model.config.model_type,
        sum(p.numel() for p in model.parameters()),
        len(tokenizer),
        bool(tokenizer.chat_template),
    )


def _check(file: Path) -> None:
    """Raise unless ``file`` begins as GGUF and can be read here."""
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file")
    with file.open("rb") as opened:
        if opened.read(len(_MAGIC)) != _MAGIC:
            raise CheckpointError(f"{file}: not a GGUF file")
    if importlib.util.find_spec("gguf") is None:
        raise UsageError("GGUF files need the package gguf: pip install 'manyeyes[gguf]'")


def _as_ordinary(model: PreTrainedModel) -> None:
    """Forget that the weights were quantised: in the folder they are not."""
    for name in ("quantization_config", "_model_name_or_path"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    vars(model).pop("hf_quantizer", None)
