"""``manyeyes convert data``: training data from one format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.options import CommonOptions

EXAMPLES = (
    "manyeyes convert data data/llava/train.json --to messages --out train.jsonl",
    "manyeyes convert data 'shards/train-{000000..000009}.tar' --to parquet --out train.parquet",
    "manyeyes convert data refs.jsonl --to llava --out refs.json --image-root data/images",
    "manyeyes convert data my.json --to vqa --out vqa_test_questions.json",
)


def data(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="A data file of any known format, or shards.")
    ],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="llava, messages, parquet, question_answer, refcoco or vqa.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The file to write. It must not exist yet.")
    ],
    format: Annotated[
        str, typer.Option(help="The format of IN; auto finds it by content.")
    ] = "auto",
    image_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that image paths start from, in IN and OUT."),
    ] = None,
    paths: Annotated[
        bool, typer.Option("--paths", help="Parquet: name the images instead of embedding them.")
    ] = False,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave broken rows out and name them.")
    ] = False,
    *,
    common: CommonOptions,
) -> None:
    """Convert training data from one format to another.

    Rows are streamed; boxes and points are kept. Image paths are written relative to --image-root
    (by default the folder of OUT); images out of tars and parquet files are saved there, in a
    folder OUT_images, unless they are embedded.
    """
    with common.session() as output:
        from manyeyes.cli.check.data import file_json, show_file
        from manyeyes.data.convert import convert_file

        with output.progress() as report:
            found = convert_file(
                source,
                out,
                to,
                format=format,
                image_root=image_root,
                embed=not paths,
                skip_bad_rows=skip_bad_rows,
                progress=lambda done: report("samples", done, None),
            )
        show_file(output, found)
        output.line(f"{out}: {found.samples} samples ({to})")
        output.result({"out": out, "to": to, "samples": found.samples, "source": file_json(found)})
