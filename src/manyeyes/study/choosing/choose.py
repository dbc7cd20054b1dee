"""Which encoders, before any training: features are compared with the language model's own.

    OUT/choose.json   every figure      OUT/report.html, table.md   the same to read
    OUT/arms.yaml     arms of the next comparison that are no recipe as it is

After the comparison ``judging`` says from ``choose.json`` how well these figures had predicted it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from manyeyes.environment import environment
from manyeyes.errors import UsageError
from manyeyes.probes.similarity import FloatArray, cka
from manyeyes.probes.tasks import blind_scores
from manyeyes.study.choosing.candidates import Candidate, Candidates
from manyeyes.study.choosing.features import ReadCandidate, Told, figure_of, read_candidate
from manyeyes.study.choosing.notes import notes_of
from manyeyes.study.choosing.pairs import Pairs
from manyeyes.study.choosing.record import Choice, ChosenEncoder, RankedSet
from manyeyes.study.choosing.scores import SetScore, distort_sets, every_set, rank_sets
from manyeyes.study.choosing.short_list import Setting, arms_of, short_list
from manyeyes.study.choosing.texts import TextReader
from manyeyes.study.probing.data import ProbeData

DISTORTED = 12
"""Sets of several encoders, from the best on, whose GW is measured; single ones all are."""


@dataclass(frozen=True)
class Asked:
    """What is chosen among, on what: all of it checked, none of it loaded.

    ``most``: encoders of a set. ``labels``: pictures with labels for a linear probe, if any.
    """

    candidates: Candidates
    pairs: Pairs
    reader: TextReader
    setting: Setting
    most: int = 2
    labels: ProbeData | None = None
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    facts: dict[str, Any] = field(default_factory=dict)


def choose(asked: Asked, told: Told = lambda label, done, total: None) -> Choice:
    """Read every encoder and the language model, and rank all sets.

    Raises:
        UsageError: too many sets, or features or texts that do not vary.
        CheckpointError, PartError: weights that are missing, damaged, or give no numbers.
    """
    every, pairs = asked.candidates.every, asked.pairs
    every_set(len(every), asked.most)
    told("texts", 0, 1)
    texts = asked.reader.read(pairs.texts, asked.device)
    told("texts", 1, 1)
    read = [read_candidate(one, pairs.images, asked.labels, asked.device, told) for one in every]
    try:
        whole, ranked = _ranked(asked, read, texts[asked.reader.levels[0]], told)
        encoders = [_encoder(one, found, texts) for one, found in zip(every, read, strict=True)]
    except ValueError as error:
        raise UsageError(f"these pictures and texts rank nothing: {error}") from error
    arms, without = arms_of(short_list(ranked), asked.candidates, asked.setting)
    labels = asked.labels
    return Choice(
        encoders=tuple(encoders),
        sets=tuple(ranked),
        similarity=tuple(tuple(map(float, row)) for row in whole),
        language=asked.reader.checkpoint,
        text_levels=asked.reader.levels,
        arms=tuple(arms),
        command="",
        notes=(*notes_of(ranked, asked.candidates), *without),
        blind={t.name: figure_of(blind_scores(t), t) for t in (labels.tasks if labels else ())},
        facts={
            "pictures": len(pairs),
            "pictures with a text": pairs.found,
            "files": list(pairs.files),
            "seed": asked.seed,
            "sets of up to": asked.most,
            **asked.facts,
            "environment": environment(),
        },
    )


def _ranked(
    asked: Asked, read: Sequence[ReadCandidate], text: FloatArray, told: Told
) -> tuple[FloatArray, list[RankedSet]]:
    features = [one.features for one in read]
    told("ranking", 0, 2)
    whole, scored = rank_sets(features, text, most=asked.most, seed=asked.seed)
    told("ranking", 1, 2)
    joined = [one.members for one in scored if len(one.members) > 1][:DISTORTED]
    singles = [(number,) for number in range(len(read))]
    apart = distort_sets(features, text, [*singles, *joined], seed=asked.seed)
    told("ranking", 2, 2)
    names = [one.name for one in asked.candidates.every]
    return whole, [_set(one, names, read, apart.get(one.members)) for one in scored]


def _set(
    one: SetScore, names: Sequence[str], read: Sequence[ReadCandidate], distortion: Any
) -> RankedSet:
    costs = [read[member].costs for member in one.members]
    return RankedSet(
        encoders=tuple(names[member] for member in one.members),
        score=one.score,
        ci95=one.ci95,
        behind=one.behind,
        behind_ci95=one.behind_ci95,
        tied=one.tied,
        parameters=sum(cost.parameters for cost in costs),
        operations=sum(cost.operations for cost in costs),
        patches=sum(cost.patches for cost in costs),
        distortion=distortion,
    )


def _encoder(one: Candidate, read: ReadCandidate, texts: dict[int, FloatArray]) -> ChosenEncoder:
    return ChosenEncoder(
        name=one.name,
        source=one.source,
        family=one.family,
        checkpoint=one.checkpoint,
        level=one.level,
        geometry=one.geometry,
        grid=one.grid,
        language={level: cka(read.features, text) for level, text in texts.items()},
        parameters=read.costs.parameters,
        operations=read.costs.operations,
        probes=read.probes,
    )
