"""``manyeyes export``: a trained model as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import (
    FolderOptions,
    ModelArgument,
    NewFolderOption,
)
from manyeyes.files import refuse_unless_empty, written_folder

EXAMPLES = (
    "manyeyes export runs/comm/model --out comm-full --self-contained",
    "manyeyes export runs/comm/model --out comm-light",
    "manyeyes export runs/comm-lora/model --out comm-adapter --keep-adapter",
)

ADAPTER_FOLDER = "adapter"


def export(
    model: ModelArgument,
    out: NewFolderOption,
    self_contained: Annotated[
        bool,
        typer.Option("--self-contained", help="Write frozen parts too: no other checkpoint needed"),
    ] = False,
    keep_adapter: Annotated[
        bool,
        typer.Option(
            "--keep-adapter", help="Write LoRA in PEFT's format into DIR/adapter; do not merge it."
        ),
    ] = False,
    *,
    common: FolderOptions,
) -> None:
    """Write model and processor as a folder for transformers and the hub.

    Without --self-contained it holds what was trained, and names the frozen parts with their
    fingerprints. LoRA is added to the weights of its part, which then are among what was trained;
    with --keep-adapter it lies in DIR/adapter, for PeftModel.from_pretrained(model, DIR/adapter).
    """
    with common.session() as output:
        quiet_libraries(debug=common.debug)
        refuse_unless_empty(out)
        needs = write_export(model, out, self_contained=self_contained, keep_adapter=keep_adapter)
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        output.line(f"{out}: {size / 2**20:.1f} MiB")
        for checkpoint in needs:
            output.line(f"  needs {checkpoint}")
        output.result({"out": out, "bytes": size, "self_contained": self_contained, "needs": needs})


def write_export(
    model: str, out: Path, *, self_contained: bool = False, keep_adapter: bool = False
) -> list[str]:
    """Write a trained model and its processor into ``out``; return the checkpoints it needs."""
    from manyeyes.checkpoints.model_files import read_object
    from manyeyes.model.loading import load_model
    from manyeyes.model.lora import merge_lora, write_adapter

    loaded, processor = load_model(model, device="cpu")
    loaded.requires_grad_(False)  # what was never trained is no part of a light folder
    with written_folder(out) as folder:
        if keep_adapter:
            write_adapter(loaded, folder / ADAPTER_FOLDER)
        else:
            merge_lora(loaded)
        loaded.save_pretrained(folder, self_contained=self_contained)
        processor.save_pretrained(folder)
    references = read_object(out / "config.json").get("references") or {}
    return sorted({entry["checkpoint"] for entry in references.values()})
