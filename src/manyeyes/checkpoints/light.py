"""Light checkpoints: what was trained, plus a fingerprinted reference to every frozen part.

A folder holds ``config.json`` (whose ``references`` name the frozen parts), ``model.safetensors``
(everything that is not a reference) and the processor's files.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from manyeyes.checkpoints import hub
from manyeyes.checkpoints.pth import read_pth
from manyeyes.checkpoints.weight_checks import check_finite, check_names
from manyeyes.errors import CheckpointError

CHANGED = "changed"
"""In a reference: names of the part's tensors that the light checkpoint holds all the same."""
WEIGHTS = "model.safetensors"
_WEIGHTS_FILE = re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")


def read_weights(
    folder: Path, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, Tensor]:
    """Read the tensors of ``folder``, from one file or from the shards of its index.

    ``wanted`` says by name which; the others are not read.

    Raises:
        CheckpointError: no weights, a damaged file, or a tensor that is missing, NaN or infinite.
    """
    found = next((name for name in hub.WEIGHT_NAMES if (folder / name).is_file()), WEIGHTS)
    places = _read_index(folder / found) if found.endswith(".index.json") else {}
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values()) or {found}):
        tensors.update(_read_file(folder / name, wanted))
    check_names(str(folder), [name for name in places if wanted(name) and name not in tensors])
    check_finite(str(folder), tensors)
    return tensors


def _read_file(file: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """Return the tensors of one file, safetensors or a ``.bin`` of plain tensors."""
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; the checkpoint is incomplete")
    if file.suffix == ".bin":
        every = read_pth(file).items()
        return {name: value for name, value in every if isinstance(value, Tensor) and wanted(name)}
    with naming_damage(file), safe_open(file, framework="pt") as handle:
        return {name: handle.get_tensor(name) for name in filter(wanted, handle.keys())}


def _read_index(file: Path) -> dict[str, str]:
    """Return {tensor: file name} of an index of shards. Raises ``CheckpointError``."""
    try:
        places: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(place) for name, place in places.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}: damaged ({error})") from error


@contextlib.contextmanager
def naming_damage(place: Path) -> Iterator[None]:
    """Turn the untyped errors of a damaged or missing weights file into ``CheckpointError``."""
    try:
        yield
    except SafetensorError as error:
        raise CheckpointError(f"{place}: damaged or truncated ({error})") from error
    except OSError as error:
        raise CheckpointError(f"{place}: the checkpoint is incomplete ({error})") from error


def verify(part: str, reference: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Compare a frozen part with the fingerprint it was trained with.

    Raises:
        CheckpointError: they differ; names the part, the checkpoint and both fingerprints.
    """
    found = hub.fingerprint(tensors)
    if found != reference["sha256"]:
        raise CheckpointError(
            f"part {part!r}: {reference['checkpoint']!r} is not the checkpoint this model was "
            f"trained with (sha256 {found[:12]}…, expected {reference['sha256'][:12]}…)"
        )


def is_weights(name: str) -> bool:
    """Tell the weights files of a folder, by their path inside, from all others."""
    return _WEIGHTS_FILE.fullmatch(name) is not None


def referenced_state(part: str, reference: Mapping[str, Any], model: Any) -> dict[str, Tensor]:
    """Return the verified tensors of a referenced part, named as in the whole model."""
    tensors = dict(model.state_dict())
    verify(part, reference, tensors)
    return {f"{part}.{name}": tensor for name, tensor in tensors.items()}


def missing_changes(
    references: Mapping[str, Mapping[str, Any]], own: Collection[str], ties: Mapping[str, str]
) -> list[str]:
    """Return what a light checkpoint should hold of its referenced parts, but does not.

    ``own``: names of its tensors. ``ties``: {target: source}; one name of a tied tensor is stored.
    """
    twins: dict[str, set[str]] = {}
    for target, source in ties.items():
        twins.setdefault(source, {source}).add(target)
        twins[target] = twins[source]
    changed = {name for entry in references.values() for name in entry.get(CHANGED, ())}
    return [name for name in sorted(changed) if not twins.get(name, {name}) & set(own)]
