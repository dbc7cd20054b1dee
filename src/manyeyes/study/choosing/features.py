"""What is read of each candidate: pooled features of pictures, its cost, and a linear probe.

Encoders are built one after the other and dropped, so that memory holds one of them.
Shapes: n pictures, N patches, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from manyeyes.encoders import ENCODERS
from manyeyes.errors import PartError
from manyeyes.evaluation.confidence.intervals import estimate_mean
from manyeyes.probes.fitting import standardized
from manyeyes.probes.similarity import FloatArray
from manyeyes.probes.tasks import Task, linear_probe
from manyeyes.study.choosing.candidates import Candidate
from manyeyes.study.costs.stage import encoder_operations
from manyeyes.study.probing.data import ProbeData
from manyeyes.study.probing.features import CHUNK, Eye, Reading, open_eye, read_levels
from manyeyes.study.probing.probe import SCALE, Figure

FINEST = 1_000
"""Patches a side at which a grid is averaged before pooling: never."""

Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EncoderCosts:
    """Of one picture: ``operations`` of the forward, and ``patches``, its visual tokens."""

    parameters: int
    operations: float
    patches: int


@dataclass(frozen=True)
class ReadCandidate:
    """``features``: mean over the patches, ``[n, D]``. ``probes``: task -> percent right."""

    features: FloatArray
    costs: EncoderCosts
    probes: Mapping[str, Figure] = field(default_factory=dict)


def read_candidate(
    candidate: Candidate,
    images: Sequence[str],
    labels: ProbeData | None,
    device: torch.device,
    told: Told = lambda label, done, total: None,
) -> ReadCandidate:
    """Build an encoder, read it, and let it go.

    Raises:
        CheckpointError: its weights are missing or damaged. PartError: features without numbers.
    """
    eye = open_eye(dict(candidate.entry), 0, candidate.trained)
    how = Reading(candidate.geometry, device, grid=FINEST)
    parts = []
    for start in range(0, len(images), CHUNK):
        told(candidate.name, start, len(images))
        some = images[start : start + CHUNK]
        parts.append(read_levels(eye, eye.encoder, some, [candidate.level], how)[0].mean(dim=1))
    told(candidate.name, len(images), len(images))
    pooled = torch.cat(parts).double()
    if not bool(pooled.isfinite().all()):
        raise PartError(f"encoder {candidate.name!r}: its features are not finite numbers")
    probes = {} if labels is None else _probed(eye, candidate, labels, device)
    return ReadCandidate(pooled.numpy(), costs_of(eye, candidate), probes)


def costs_of(eye: Eye, candidate: Candidate) -> EncoderCosts:
    """Return what an encoder costs a picture, by its size alone."""
    spec = eye.encoder.spec
    size = ENCODERS[spec.family].cost(spec, eye.encoder.backbone.config)
    parameters = sum(p.numel() for p in eye.encoder.parameters())
    return EncoderCosts(parameters, encoder_operations(parameters, size), math.prod(candidate.grid))


def _probed(
    eye: Eye, candidate: Candidate, labels: ProbeData, device: torch.device
) -> dict[str, Figure]:
    how = Reading(candidate.geometry, device)
    read = [
        read_levels(eye, eye.encoder, part, [candidate.level], how)[0]
        for part in (labels.train, labels.held)
    ]
    train, held = standardized(read[0], read[1], dims=(0, 1))
    return {task.name: figure_of(linear_probe(task, train, held, 0), task) for task in labels.tasks}


def figure_of(scores: Tensor, task: Task) -> Figure:
    """Return the mean of item scores ``[M]`` in percent, with its interval over pictures."""
    found = estimate_mean(scores.tolist(), [str(one) for one in task.held.picture.tolist()])
    ci95 = found.ci95 and (SCALE * found.ci95[0], SCALE * found.ci95[1])
    return Figure(SCALE * found.mean, ci95, found.n, found.clusters)
