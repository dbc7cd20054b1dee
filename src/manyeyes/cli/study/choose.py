"""``manyeyes choose``: which encoders, before any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import DeviceOptions
from manyeyes.cli.output import Output
from manyeyes.cli.own_data import ImagesFolder, Size, TrainFiles, recipe_names_for, sized
from manyeyes.errors import UsageError, nearest
from manyeyes.files import held

if TYPE_CHECKING:
    from manyeyes.study.choosing.choose import Asked
    from manyeyes.study.choosing.pairs import Pairs
    from manyeyes.study.choosing.record import Choice
    from manyeyes.study.probing.data import ProbeData

EXAMPLES = (
    "manyeyes choose clip dinov2 siglip2 --train my.json --images pictures --out choice",
    "manyeyes choose comm/world mae=world:mae --data data --out choice",
    "manyeyes choose clip=openai/clip-vit-base-patch16 dinov2=facebook/dinov2-base "
    "--train captions.json --language Qwen/Qwen2.5-0.5B-Instruct --most 3 --out choice",
    "manyeyes choose --judge study --out choice",
)
PROBED = "presence"
"""The task of the linear probe where none is named: any labels allow it."""


@dataclass(frozen=True)
class PairOptions:
    """Pictures and their texts."""

    train: TrainFiles = None
    images: ImagesFolder = None
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="A world's folder, in place of --train."),
    ] = None
    texts: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="What counts as a picture's text: answers, or all (questions too)."
        ),
    ] = "answers"
    sample: Annotated[
        int, typer.Option(min=24, help="Pictures that are read, drawn by --seed.")
    ] = 200
    seed: Annotated[int, typer.Option(help="Which pictures are drawn.")] = 0


@dataclass(frozen=True)
class SpaceOptions:
    """Which features of encoders and language model are compared."""

    language: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Language model, a folder or hub id. [default: the first recipe's]"
        ),
    ] = None
    text_level: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            help="Of the language model: 0 the token embeddings, N the states after block N, -1 "
            "the last. May be repeated; the first ranks. [default: 0]",
        ),
    ] = None
    level: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Of every encoder, -1 the last. [default: the deepest that its recipe reads, or "
            "the last but one]",
        ),
    ] = None
    most: Annotated[int, typer.Option(min=1, help="Sets of up to so many encoders.")] = 2


@dataclass(frozen=True)
class ProbeOptions:
    """A linear probe beside the ranking, where there are labels."""

    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="COCO instances or a world's scenes: a linear probe stands beside the ranking. "
            "[default: those of --data]",
        ),
    ] = None
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Task of the probe; may be repeated. [default: presence]"
        ),
    ] = None


def choose(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="Recipes or methods (clip), model folders or FAMILY=CHECKPOINT: their encoders.",
            autocompletion=recipe_names_for,
        ),
    ] = None,
    *,
    pairs: PairOptions,
    space: SpaceOptions,
    probe: ProbeOptions,
    size: Size = None,
    judge: Annotated[
        Path | None,
        typer.Option(
            metavar="STUDY",
            help="Say from a finished comparison how well the choice in --out had predicted it.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the choice.")] = Path(
        "choice"
    ),
    common: DeviceOptions,
) -> None:
    """Rank encoders, and sets of them, by how like the language model's features theirs are.

    Nothing is trained. Pictures go through every encoder and their texts through the language
    model; CKA says how alike the spaces are, and how alike the encoders are among themselves, which
    a set's score punishes. Gromov-Wasserstein, cost and, with labels, a linear probe stand beside.

    It ends with the command that compares the short list. After that, --judge says how well the
    ranking had predicted.
    """
    with common.session() as output:
        quiet_libraries(debug=common.debug)
        if judge is not None:
            if sources:
                raise UsageError("--judge takes a finished study, and the choice in --out")
            judge_study(output, judge, out)
            return
        asked = ask(output, sources or [], pairs, space, probe, size, common.device)
        with held(out):
            run(output, asked, out)


def ask(
    output: Output,
    sources: list[str],
    given: PairOptions,
    space: SpaceOptions,
    probe: ProbeOptions,
    size: str | None,
    device: str,
) -> Asked:
    """Return all that is chosen among, checked; raises before anything is loaded."""
    files, images = text_files(given)
    names = [source_name(output, name, size) for name in sources]

    from manyeyes.model.loading import choose_device
    from manyeyes.recipes.finding.families import fitting_size
    from manyeyes.study.choosing.candidates import find_candidates
    from manyeyes.study.choosing.choose import Asked
    from manyeyes.study.choosing.pairs import read_pairs
    from manyeyes.study.choosing.short_list import Setting, size_of
    from manyeyes.study.choosing.texts import text_reader

    candidates = find_candidates(names, level=space.level)
    language = space.language or candidates.language
    if language is None:
        raise UsageError("no recipe says which language model: name one with --language")
    reader = text_reader(language, space.text_level or ())
    pairs = read_pairs(files, images, count=given.sample, seed=given.seed, texts=given.texts)
    if len(pairs) < given.sample:
        output.note(f"{len(pairs)} pictures have a text: all are read")
    data = ["--data", str(given.data)] if given.data is not None else own_words(given)
    return Asked(
        candidates=candidates,
        pairs=pairs,
        reader=reader,
        setting=Setting(size or size_of(candidates) or fitting_size(), space.language, tuple(data)),
        most=space.most,
        labels=labelled(probe, given, pairs),
        seed=given.seed,
        device=choose_device(device),
        facts={"texts": given.texts},
    )


def source_name(output: Output, name: str, size: str | None) -> str:
    """Return a source with the recipe in a method's place; other names as they are.

    Raises:
        UsageError: an encoder family without its checkpoint, or nothing that is known.
    """
    from manyeyes.recipes.finding.families import families, is_family

    if "=" in name or (Path(name) / "config.json").is_file() or not is_family(name):
        return name if "=" in name or Path(name).is_dir() else sized(output, name, size)
    known = families()
    if name in known:
        return sized(output, name, size)
    from manyeyes.encoders import ENCODERS

    if name in ENCODERS:
        raise UsageError(f"{name} is a family of encoders: say which, {name}=CHECKPOINT")
    raise UsageError(
        f"no encoder, recipe or method {name!r}{nearest(name, [*known, *ENCODERS])}; methods: "
        f"{', '.join(known)}; or FAMILY=CHECKPOINT with a family of encoders"
    )


def text_files(given: PairOptions) -> tuple[list[Path], Path | None]:
    """Return the files with texts, and where their images start; raises ``UsageError``."""
    if bool(given.train) == (given.data is not None):
        raise UsageError(
            "pictures and texts come from --train FILE, or from --data DIR, a world's folder"
            + (": not from both" if given.train else "")
        )
    if given.train:
        return given.train, given.images
    from manyeyes.study.choosing.pairs import world_files

    return world_files(given.data or Path())


def own_words(given: PairOptions) -> list[str]:
    """Return the words that name own files on a command line."""
    words = [word for file in given.train or () for word in ("--train", str(file))]
    return [*words, *(["--images", str(given.images)] if given.images is not None else [])]


def labelled(probe: ProbeOptions, given: PairOptions, pairs: Pairs) -> ProbeData | None:
    """Return pictures with labels and the tasks of the probe; None where there are no labels."""
    from manyeyes.cli.study.probe import SCENES, read_sets
    from manyeyes.study.probing.data import make_tasks

    place = probe.labels
    if place is None and given.data is not None:
        place = given.data if all((given.data / name).is_file() for name in SCENES) else None
    if place is None:
        if probe.task:
            raise UsageError("--task is about a linear probe: give its labels with --labels FILE")
        return None
    train, apart = read_sets(place, None, given.images)
    most = len(pairs)
    return make_tasks(train[:most], apart[:most], only=probe.task or [PROBED])


def run(output: Output, asked: Asked, out: Path) -> None:
    """Choose, write, and print the ranking with the next command."""
    from manyeyes.study.choosing.choose import choose as choose_now
    from manyeyes.study.choosing.notes import headline
    from manyeyes.study.choosing.written import write_choice

    with output.progress() as report:
        found = choose_now(asked, report)
    found = write_choice(found, asked.setting, out)
    output.line(headline(found))
    output.show(ranking(found))
    for note in found.notes:
        output.note(f"note: {note}")
    output.line(f"report: {out / 'report.html'}")
    if found.command:
        output.line(f"next: {found.command}")
    output.result({"out": out, "headline": headline(found), **vars(found)})


def ranking(choice: Choice) -> Table:
    """Return the sets as a table, the best first."""
    from manyeyes.study.choosing.written import SHOWN, cells, columns

    first, *others = columns(choice)
    table = Table(first, title="encoders, most like the language model first")
    table.title_justify = "left"
    for title in others:
        table.add_column(escape(title), justify="right")
    for one in choice.sets[:SHOWN]:
        table.add_row(*map(escape, cells(choice, one)))
    left = len(choice.sets) - SHOWN
    table.caption = f"{left} more sets stand in choose.json" if left > 0 else None
    return table


def judge_study(output: Output, study: Path, out: Path) -> None:
    """Say how well the choice in ``out`` had predicted a finished comparison."""
    from manyeyes.study.choosing.judging import judge_choice, write_judgement
    from manyeyes.study.choosing.written import read_choice
    from manyeyes.study.comparison.summary import summarize

    choice = read_choice(out)
    judgement = judge_choice(choice, summarize(study))
    write_judgement(judgement, choice, out)
    _say(output, judgement.sentences())
    output.line(f"report: {out / 'report.html'}")
    output.result({"out": out, "study": study, **vars(judgement)})


def _say(output: Output, sentences: Sequence[str]) -> None:
    for text in sentences:
        output.line(text)
