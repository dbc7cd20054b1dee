"""What each level of each encoder is worth to a language model (COMM, layer-wise analysis).

One model per level: its features alone, one linear projection, everything else as in the recipe;
all are trained and asked as the arms of one study.

    OUT/report.html ...   as of `compare`
    OUT/levels.md, levels.html   level x benchmark: means over seeds
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from manyeyes.encoders import ENCODERS, GridEncoder, parse_encoder
from manyeyes.errors import UsageError
from manyeyes.files import held, write_text
from manyeyes.recipes import load_recipe
from manyeyes.study.comparison.compare import Finished, Settings, compare_held
from manyeyes.study.comparison.headline import constant_warning
from manyeyes.study.comparison.summary import Summary
from manyeyes.study.pages.heatmap import Column, heatmap, markdown
from manyeyes.study.probing.features import NOT_PROBED, gives_patches
from manyeyes.study.trials.arms import Progress
from manyeyes.study.trials.contestants import Contestant

TABLE_FILE, HEATMAP_FILE = "levels.md", "levels.html"
FUSION = "model.fusion={name: single, projector: linear}"


def level_arms(recipe: str, levels: Sequence[int] = ()) -> list[Contestant]:
    """Return one arm per encoder of patches and level, shallow first: ``clip-3``, a level alone.

    ``levels``: indices of ``hidden_states`` (none: 1..L); those that an encoder lacks are left out.

    Raises:
        UsageError: fewer than two levels, or one that no encoder has. RecipeError, CheckpointError.
    """
    blocks = [dict(entry) for entry in load_recipe(recipe).model.get("encoders", [])]
    arms = [arm for entry in blocks if gives_patches(entry) for arm in _arms(recipe, entry, levels)]
    found = {int(arm.name.rpartition("-")[2]) for arm in arms}
    missing = sorted(set(levels) - found)
    if missing:
        raise UsageError(f"{recipe}: no encoder has level {', '.join(map(str, missing))}")
    if len(arms) < 2:
        raise UsageError(f"{recipe}: a sweep needs at least two levels of encoders of patches")
    return arms


def _arms(recipe: str, entry: dict[str, Any], levels: Sequence[int]) -> Iterator[Contestant]:
    spec = parse_encoder(entry)
    family = ENCODERS[spec.family]
    assert issubclass(family, GridEncoder)
    alone = {key: value for key, value in entry.items() if key not in NOT_PROBED | {"fused"}}
    for level in range(1, family.num_blocks(family.read_config(spec)) + 1):
        if not levels or level in levels:
            encoders = json.dumps([{**alone, "levels": [level]}])
            yield Contestant(f"{spec.name}-{level}", recipe, (f"model.encoders={encoders}", FUSION))


def sweep_levels(
    recipe: str,
    out: Path,
    settings: Settings,
    levels: Sequence[int] = (),
    *,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Finished:
    """Run, or continue, the study of a recipe's levels in ``out`` and write its map.

    Raises: as `level_arms` and `compare`.
    """
    arms = level_arms(recipe, levels)
    with held(out):
        done = compare_held(arms, out, settings, progress=progress, note=note)
        write_levels(done.summary, out)
    return done


def write_levels(summary: Summary, out: Path) -> None:
    """Write ``levels.md`` and ``levels.html``; figures in points."""
    names = list(summary.plan.benchmarks)
    cells = {"language model": {arm.name: {n: arm.means[n] for n in names} for arm in summary.arms}}
    asked = summary.arms[0].trials[0].measures
    columns = [
        Column(name, summary.plan.benchmarks[name], summary.majority[name], asked[name].n)
        for name in names
    ]
    notes = [
        *filter(None, [constant_warning(summary)]),
        "One model per level: its features through one linear projection, trained and asked alike; "
        f"means over {summary.plan.seeds} seed(s). Intervals and verdicts: report.html.",
        *summary.notes,
    ]
    write_text(out / TABLE_FILE, markdown(cells, columns, notes))
    write_text(out / HEATMAP_FILE, heatmap(cells, columns, notes))
