"""``manyeyes convert llama-adapter-v2``: a released checkpoint, as a model of manyeyes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import FolderOptions, NewFolderOption
from manyeyes.files import refuse_unless_empty, written_folder

EXAMPLES = (
    "manyeyes convert llama-adapter-v2 BIAS-7B.pth --out adapter --bgr",
    "manyeyes convert llama-adapter-v2 BIAS-7B.pth --out adapter --language llama-7b-hf",
)


def llama_adapter_v2(
    file: Annotated[Path, typer.Argument(metavar="FILE.pth", help="A released checkpoint.")],
    out: NewFolderOption,
    language: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="LLaMA-1 as a Hugging Face folder or hub id."),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="CLIP ViT-L/14 as a Hugging Face folder or id."),
    ] = None,
    bgr: Annotated[
        bool,
        typer.Option("--bgr", help="Feed blue, green, red, as the released models were trained."),
    ] = False,
    *,
    common: FolderOptions,
) -> None:
    """Turn a released LLaMA-Adapter V2 (multimodal) checkpoint into a model folder.

    The file holds what was trained; CLIP and LLaMA-1 are taken from their own checkpoints, whose
    fingerprints the folder records: it refuses other weights later.
    """
    with common.session() as output:
        from manyeyes.convert.llama_adapter_v2 import convert

        quiet_libraries(debug=common.debug)
        refuse_unless_empty(out)
        model, processor, released = convert(file, language=language, clip=clip, bgr=bgr)
        with written_folder(out) as folder:
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
        taken = len(released.tensors) + len(released.gates) + len(released.scales)
        needs = sorted({entry["checkpoint"] for entry in model.config.references.values()})
        output.line(f"{out}: {taken} tensors of {file}")
        if released.left_out:
            output.line(f"  {len(released.left_out)} tensors of frozen parts left out")
        for checkpoint in needs:
            output.line(f"  needs {checkpoint}")
        output.result(
            {"out": out, "tensors": taken, "left_out": len(released.left_out), "needs": needs}
        )
