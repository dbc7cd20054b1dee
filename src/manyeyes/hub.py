"""Where checkpoints come from, and how to tell that they are the right ones.

A checkpoint is a Hugging Face id (``openai/clip-vit-large-patch14-336``), a local folder, or a
part of the built-in world (``world:clip``), which ships with the package.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils.hub import cached_file

from manyeyes.errors import CheckpointError

WORLD_PARTS = Path(__file__).parent / "world" / "parts"
WORLD_SCHEME = "world:"


def resolve(checkpoint: str) -> str:
    """Return the path or hub id to hand to ``from_pretrained``.

    Raises:
        CheckpointError: a ``world:`` part that does not ship with this installation.
    """
    if not checkpoint.startswith(WORLD_SCHEME):
        return checkpoint
    folder = WORLD_PARTS / checkpoint.removeprefix(WORLD_SCHEME)
    if not (folder / "config.json").is_file():
        parts = sorted(path.parent.name for path in WORLD_PARTS.glob("*/config.json"))
        raise CheckpointError(
            f"{checkpoint!r}: no such world part (present: {', '.join(parts) or 'none'}); "
            "make the parts with `manyeyes world pretrain`"
        )
    return str(folder)


def load_config(
    checkpoint: str,
    config_class: type[PreTrainedConfig] | None = None,
    declared: Mapping[str, Any] | None = None,
) -> PreTrainedConfig:
    """Return the architecture of ``checkpoint``, or build it from ``declared`` without any file.

    Args:
        checkpoint: hub id, folder or world part.
        config_class: the family's configuration class; ``None`` = decided by ``model_type``.
        declared: configuration fields written in a recipe; when given nothing is looked up.

    Raises:
        CheckpointError: the checkpoint cannot be found; says which id and how to get it.
    """
    if declared:
        fields = dict(declared)
        model_type = fields.pop("model_type", None)
        if config_class is not None:
            return config_class(**fields)
        return AutoConfig.for_model(model_type, **fields)
    loader: Any = config_class or AutoConfig
    try:
        return loader.from_pretrained(resolve(checkpoint))
    except OSError as error:
        raise missing_checkpoint(checkpoint) from error


def load_pretrained(
    model_class: Any, checkpoint: str, config: PreTrainedConfig | None = None
) -> PreTrainedModel:
    """Load ``model_class`` from ``checkpoint`` in the dtype it is stored in, not in ``config``'s.

    Raises:
        CheckpointError: not found, damaged, or weights missing for this class.
    """
    if config is not None:
        config = copy.deepcopy(config)
        config.dtype = None  # else "auto" would follow it, and the part's fingerprint with it
    try:
        model, report = model_class.from_pretrained(
            resolve(checkpoint), config=config, dtype="auto", output_loading_info=True
        )
    except OSError as error:
        raise missing_checkpoint(checkpoint) from error
    except Exception as error:  # a damaged safetensors header raises its own, untyped error
        if type(error).__name__ == "SafetensorError":
            raise CheckpointError(f"{checkpoint!r}: damaged weights ({error})") from error
        if isinstance(error, RuntimeError) and "mismatch" in str(error):
            raise CheckpointError(
                f"{checkpoint!r} has weights of other sizes than the architecture declared for it, "
                "for example another number of classes"
            ) from error
        raise
    if report["missing_keys"]:
        raise CheckpointError(
            f"{checkpoint!r} lacks {len(report['missing_keys'])} weights of "
            f"{model_class.__name__}, e.g. {sorted(report['missing_keys'])[0]!r}"
        )
    return model


def weights_folder(checkpoint: str) -> Path:
    """Return the local folder with the weight files of a folder, world part or hub id.

    Raises:
        CheckpointError: it is neither here nor reachable.
    """
    place = resolve(checkpoint)
    if Path(place).is_dir():
        return Path(place)
    for name in ("model.safetensors.index.json", "model.safetensors"):
        try:
            found = cached_file(place, name, _raise_exceptions_for_missing_entries=False)
        except OSError as error:
            raise missing_checkpoint(checkpoint) from error
        if found is not None:
            return Path(found).parent
    raise CheckpointError(f"{checkpoint!r} holds no safetensors weights")


def missing_checkpoint(checkpoint: str) -> CheckpointError:
    """Return the error for a checkpoint that is neither here nor reachable."""
    return CheckpointError(
        f"cannot load {checkpoint!r}: no such folder, and the hub has no such model or cannot be "
        f"reached. Get it once with `hf download {checkpoint}` (needs network), or put the path of "
        "a local Hugging Face folder in its place"
    )


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, dtypes, shapes and bytes of ``tensors``, in name order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def module_fingerprint(module: nn.Module) -> str:
    """Return the fingerprint of a module's persistent state."""
    return fingerprint(module.state_dict())
