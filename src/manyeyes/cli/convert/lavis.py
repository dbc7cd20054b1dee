"""``manyeyes convert lavis``: BLIP-2's and InstructBLIP's own files, as what recipes read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import CommonOptions, NewFolderOption
from manyeyes.files import refuse_unless_empty

EXAMPLES = (
    "manyeyes convert lavis blip2_pretrained.pth --out blip2",
    "manyeyes convert lavis eva_vit_g.pth --out eva",
)


def lavis(
    file: Annotated[Path, typer.Argument(metavar="FILE.pth", help="A checkpoint of LAVIS.")],
    out: NewFolderOption,
    heads: Annotated[
        int, typer.Option(min=1, help="Attention heads of the file's vision encoder.")
    ] = 16,
    *,
    common: CommonOptions,
) -> None:
    """Take the Q-Former and the EVA vision encoder out of a LAVIS file.

    A stage starts from the Q-Former with `start: [{checkpoint: DIR}]`; DIR/vision is a checkpoint
    for the encoder family eva_clip. Language models in the file are left out.
    """
    with common.session() as output:
        from manyeyes.convert.lavis import VISION_FOLDER, convert, write

        quiet_libraries(debug=common.debug)
        refuse_unless_empty(out)
        found = convert(file, heads=heads)
        write(found, out)
        vision = None if found.vision is None else out / VISION_FOLDER
        if found.fusion:
            output.line(f"{out}: {len(found.fusion)} tensors of a Q-Former")
        if found.vision is not None:
            size = found.vision.config
            output.line(
                f"{vision}: EVA, {size.num_hidden_layers} blocks of width {size.hidden_size}"
            )
        if found.left_out:
            output.line(f"  {len(found.left_out)} tensors left out, as {found.left_out[0]}")
        output.result(
            {
                "out": out,
                "fusion": len(found.fusion),
                "vision": vision,
                "left_out": found.left_out,
            }
        )
