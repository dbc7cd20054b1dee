"""Where checkpoints come from, and how to tell that they are the right ones.

A checkpoint is a Hugging Face id (``openai/clip-vit-large-patch14-336``), a local folder, or a
part of the built-in world (``world:clip``), which ships with the package.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from manyeyes.checkpoints.load_report import held_report, means_nothing, renaming
from manyeyes.checkpoints.model_files import check_model_files
from manyeyes.checkpoints.trust import trusts_remote_code
from manyeyes.checkpoints.weight_checks import check_finite, check_names
from manyeyes.errors import CheckpointError, ManyEyesError, RecipeError

WORLD_PARTS = Path(__file__).parents[1] / "world" / "parts"
WORLD_SCHEME = "world:"
WEIGHT_NAMES = (
    *("model.safetensors.index.json", "model.safetensors"),
    *("pytorch_model.bin.index.json", "pytorch_model.bin"),
)
"""What holds a checkpoint's weights, or lists the shards that do; the first one found is read."""


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
        CheckpointError: the checkpoint cannot be found (says which id and how to get it), is
            damaged, or asks to run code of its own.
        RecipeError: declared fields that ``transformers`` refuses.
    """
    if declared:
        return _declared_config(checkpoint, config_class, dict(declared))
    with reading(checkpoint):
        if config_class is not None:
            return config_class.from_pretrained(resolve(checkpoint))
        return AutoConfig.from_pretrained(
            resolve(checkpoint), trust_remote_code=trusts_remote_code()
        )


def _declared_config(
    checkpoint: str, config_class: type[PreTrainedConfig] | None, fields: dict[str, Any]
) -> PreTrainedConfig:
    model_type = fields.pop("model_type", None)
    try:
        if config_class is not None:
            return config_class(**fields)
        return AutoConfig.for_model(model_type, **fields)
    except Exception as error:  # configuration classes check their fields each in its own way
        place = f"the configuration given for {checkpoint!r}" if checkpoint else "a configuration"
        raise RecipeError(f"{place} is refused by transformers: {one_line(error)}") from error


def load_pretrained(
    model_class: Any, checkpoint: str, config: PreTrainedConfig | None = None
) -> PreTrainedModel:
    """Load ``model_class`` from ``checkpoint`` in the dtype it is stored in, not in ``config``'s.

    Raises:
        CheckpointError: not found, damaged, or weights that are missing, NaN or infinite.
    """
    if config is not None:
        config = copy.deepcopy(config)
        config.dtype = None  # else "auto" would follow it, and the part's fingerprint with it
    names = renaming(model_class.__name__)
    with reading(checkpoint), held_report() as tables:
        model, report = model_class.from_pretrained(
            resolve(checkpoint),
            config=config,
            dtype="auto",
            output_loading_info=True,
            **({"key_mapping": names} if names else {}),
            trust_remote_code=trusts_remote_code(),
        )
        missing, unexpected = report["missing_keys"], report["unexpected_keys"]
        if not missing and means_nothing(model_class.__name__, unexpected):
            tables.clear()
    check_names(repr(checkpoint), missing)
    check_finite(repr(checkpoint), model.state_dict())
    return model


def weights_folder(checkpoint: str) -> Path:
    """Return the local folder with all weight files of a folder, world part or hub id.

    Raises:
        CheckpointError: it, or a shard that its index names, is neither here nor reachable.
    """
    place = resolve(checkpoint)
    if Path(place).is_dir():
        return Path(place)
    for name in WEIGHT_NAMES:
        with reading(checkpoint):
            found = cached_file(place, name, _raise_exceptions_for_missing_entries=False)
            if found is not None and name.endswith(".index.json"):
                get_checkpoint_shard_files(place, found)
        if found is not None:
            return Path(found).parent
    raise CheckpointError(f"{checkpoint!r} holds no {' or '.join(WEIGHT_NAMES[1::2])}")


@contextmanager
def reading(checkpoint: str) -> Iterator[None]:
    """Name ``checkpoint`` in whatever is raised while its files are read.

    Damaged files make ``transformers``, ``tokenizers``, ``safetensors`` and the checks of
    configuration classes raise nearly everything.

    Raises:
        CheckpointError: not found, damaged, or asks to run code of its own.
    """
    if checkpoint:
        check_model_files(Path(resolve(checkpoint)))
    try:
        yield
    except (ManyEyesError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise unreadable(checkpoint, error) from error


def unreadable(checkpoint: str, error: Exception) -> CheckpointError:
    """Return what to say of ``checkpoint`` where reading its files raised ``error``."""
    if isinstance(error, ValueError | ImportError) and "trust_remote_code" in str(error):
        return CheckpointError(
            f"{checkpoint!r} asks to run Python code of its own (auto_map in its files); nothing "
            "of it was run. Read that code first; if you trust it, pass --trust-remote-code (in "
            "Python trust_remote_code=True)"
        )
    if isinstance(error, OSError) and not Path(resolve(checkpoint)).is_dir():
        return missing_checkpoint(checkpoint)
    if type(error).__name__ == "SafetensorError":
        return CheckpointError(f"{checkpoint!r}: damaged weights ({one_line(error)})")
    if isinstance(error, RuntimeError) and "mismatch" in str(error):
        return CheckpointError(
            f"{checkpoint!r} has weights of other sizes than the architecture declared for it, "
            "for example another number of classes"
        )
    return CheckpointError(f"{checkpoint!r} is damaged or no such checkpoint: {one_line(error)}")


def one_line(error: Exception, most: int = 300) -> str:
    """Return an error's text on one line, shortened, with its type where the text is bare."""
    text = " ".join(str(error).split())
    named = text if " " in text else f"{type(error).__name__} {text}".strip()
    return named if len(named) <= most else f"{named[:most]}…"


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
