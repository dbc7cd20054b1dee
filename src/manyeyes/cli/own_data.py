"""Your own files on the command line: the options, and the folder that is made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyeyes.cli.output import Output
from manyeyes.errors import UsageError

if TYPE_CHECKING:
    from manyeyes.data.own.folder import OwnData

FOLDER = "own-data"
"""Under the folder of a run or a study: what was made of own files."""

PANEL = "Your own data"

TrainFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--train",
        metavar="FILE",
        help="Your rows to train on, in any format that is known. May be repeated.",
        rich_help_panel=PANEL,
    ),
]
ImagesFolder = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Where the rows' image paths start; by default beside each file.",
        rich_help_panel=PANEL,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Size of recipes that are named by method alone: world, small or paper. "
        "[default: what fits here]",
    ),
]


@dataclass(frozen=True)
class OwnOptions:
    """The options for own files, and what is made of them."""

    train: TrainFiles = None
    test: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Your rows to ask; without it a share of --train is held out.",
            rich_help_panel=PANEL,
        ),
    ] = None
    images: ImagesFolder = None
    hold_out: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Share of the rows held out, by image.", rich_help_panel=PANEL
        ),
    ] = 0.2
    split_seed: Annotated[
        int, typer.Option(help="Which images are held out.", rich_help_panel=PANEL)
    ] = 0
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How answers are scored, where rows do not say; by default as each answer calls "
            "for.",
            rich_help_panel=PANEL,
        ),
    ] = None

    text_boxes: Annotated[
        str | None,
        typer.Option(
            metavar="STYLE",
            help="Boxes in your texts are numbers of this style: shikra (shares of the padded "
            "square, as in LLaVA's mixtures), lion (shares of the image) or int1000.",
            rich_help_panel=PANEL,
        ),
    ] = None

    def check(self, data: Path | None, *, reason: str) -> None:
        """Check that the options fit together and ``--data``; ``reason``: why --test needs --train.

        Raises:
            UsageError: --test without --train, or both --train and --data.
        """
        if self.train and data is not None:
            raise UsageError("give --train for your own files, or --data for a folder, not both")
        if self.test is not None and not self.train:
            raise UsageError(f"--test needs --train: {reason}")

    def prepare(
        self, output: Output, folder: Path, *, skip_bad_rows: bool = False
    ) -> OwnData | None:
        """Prepare own files under ``folder`` and tell what is in them; None where none are given.

        Raises:
            UsageError: options for own files without a file. Otherwise what ``prepare`` raises.
        """
        if not self.train and self.test is None:
            if self.images is not None or self.metric is not None:
                name = "--images" if self.images is not None else "--metric"
                raise UsageError(f"{name} is about your own files: give --train, --test or both")
            return None
        from manyeyes.data.own.folder import OwnFiles, prepare

        files = OwnFiles(
            train=tuple(self.train or ()),
            test=self.test,
            images=self.images,
            share=self.hold_out,
            seed=self.split_seed,
            metric=self.metric,
            skip_bad_rows=skip_bad_rows,
            text_boxes=self.text_boxes,
        )
        with output.status("reading your data"):
            made = prepare(files, folder / FOLDER)
        for note in made.notes():
            output.note(note)
        if made.leaking_images:
            output.note(
                f"own data: {made.leaking_images} of {made.test_images} test pictures are in the "
                f"training rows too, or copies of one; see {made.folder / 'own.json'}"
            )
        return made


def own_record(model: str) -> Mapping[str, Any]:
    """Return what a model's run was told of own files (see ``own.json``); empty where nothing is.

    ``model``: the folder of a run or of a study's trial.
    """
    if not Path(model).is_dir():
        return {}
    for place in list(Path(model).absolute().parents)[:4]:
        record = place / FOLDER / "own.json"
        if record.is_file():
            try:
                told = json.loads(record.read_text(encoding="utf-8"))["made_from"]
            except (ValueError, KeyError):
                return {}
            return told if isinstance(told, Mapping) else {}
    return {}


def same_split(told: Mapping[str, Any], own: OwnData) -> bool:
    """Whether own files were parted alike for a model's run and now, whatever else was said."""
    now = json.loads((own.folder / "own.json").read_text(encoding="utf-8"))["made_from"]
    alike = all(told.get(key) == now.get(key) for key in ("share", "seed", "state"))
    return alike and (told.get("test") == "None") == (now["test"] == "None")


def sized(output: Output, name: str, size: str | None) -> str:
    """Return the recipe that a method's short name means; other names as they are.

    Raises:
        RecipeError: there is no such method or recipe.
    """
    from manyeyes.recipes.finding.families import check_family, fitting_size, is_family, with_size
    from manyeyes.recipes.names import find_recipe

    if not is_family(name):
        find_recipe(name)  # a misspelt name is told before anything large is imported
        return name
    check_family(name)
    recipe = with_size(name, size or fitting_size())
    if size is None:
        output.note(f"{name}: {recipe}, which fits this machine (--size chooses another)")
    return recipe


def recipe_names_for(begun: str) -> list[str]:
    """Return the names of methods and recipes that begin so, for the shell's completion."""
    from manyeyes.recipes.names import recipe_names

    names = recipe_names()
    methods = dict.fromkeys(name.partition("/")[0] for name in names)
    return [name for name in (*methods, *names) if name.startswith(begun)]
