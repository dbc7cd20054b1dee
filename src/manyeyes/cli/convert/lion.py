"""``manyeyes convert lion``: a released LION checkpoint, as a model of manyeyes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import FolderOptions, NewFolderOption
from manyeyes.errors import CheckpointError
from manyeyes.files import refuse_unless_empty, written_folder

EXAMPLES = (
    "manyeyes convert lion LION_FlanT5_XL.pth --out lion-xl",
    "manyeyes convert lion LION_FlanT5_XL.pth --out lion-xl --language flan-t5-xl --vision blip2",
)


def lion(
    file: Annotated[Path, typer.Argument(metavar="FILE.pth", help="A released checkpoint.")],
    out: NewFolderOption,
    language: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="FlanT5 as a Hugging Face folder or hub id."),
    ] = None,
    vision: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="EVA ViT-g, or a BLIP-2 that holds it."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE", help="Recipe of the model in the file. [default: chosen by its width]"
        ),
    ] = None,
    *,
    common: FolderOptions,
) -> None:
    """Turn a released LION checkpoint into a model folder: weights only.

    The file holds what was trained; optimizer moments are dropped. FlanT5 and EVA ViT-g are taken
    from their own checkpoints, whose fingerprints the folder records.
    """
    with common.session() as output:
        from manyeyes.convert.lion import convert

        quiet_libraries(debug=common.debug)
        refuse_unless_empty(out)
        model, processor, report = convert(file, recipe=recipe, language=language, vision=vision)
        if report.unexpected:
            shown = ", ".join(map(repr, report.unexpected[:3]))
            raise CheckpointError(
                f"{file}: {len(report.unexpected)} tensors have no place in a LION of this shape: "
                f"{shown}"
            )
        with written_folder(out) as folder:
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
        output.line(f"{out}: {report.taken} tensors of {file}")
        told = {"left out (frozen parts)": report.left_out, "missing": report.missing}
        for what, names in told.items():
            if names:
                output.line(f"  {len(names)} {what}, as {names[0]}")
        output.result({"out": out, **vars(report)})
