"""``manyeyes export``: a trained model as a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import (
    FolderOptions,
    ModelArgument,
    NewFolderOption,
)
from manyeyes.files import refuse_unless_empty, written_folder

if TYPE_CHECKING:
    from torch import nn

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
    licence: Annotated[
        str | None,
        typer.Option(
            "--license", metavar="ID", help="Of the whole, for its card: apache-2.0, other, ..."
        ),
    ] = None,
    *,
    common: FolderOptions,
) -> None:
    """Write model and processor as a folder for transformers and the hub, with a model card.

    Without --self-contained it holds what was trained, and names the frozen parts with their
    fingerprints. LoRA is added to the weights of its part, which then are among what was trained;
    with --keep-adapter it lies in DIR/adapter, for PeftModel.from_pretrained(model, DIR/adapter).
    """
    with common.session() as output:
        quiet_libraries(debug=common.debug)
        refuse_unless_empty(out)
        needs = write_export(
            model,
            out,
            self_contained=self_contained,
            keep_adapter=keep_adapter,
            licence=licence,
            note=output.note,
        )
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        output.line(f"{out}: {size / 2**20:.1f} MiB")
        for checkpoint in needs:
            output.line(f"  needs {checkpoint}")
        output.result({"out": out, "bytes": size, "self_contained": self_contained, "needs": needs})


def write_export(
    model: str,
    out: Path,
    *,
    self_contained: bool = False,
    keep_adapter: bool = False,
    licence: str | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> list[str]:
    """Write a trained model and its processor into ``out``; return the checkpoints it needs."""
    from manyeyes.checkpoints.card import write_card
    from manyeyes.checkpoints.model_files import read_object
    from manyeyes.model.loading import load_model
    from manyeyes.model.lora import merge_lora, write_adapter

    loaded, processor = load_model(model, device="cpu")
    sections = card_sections(loaded, Path(model).resolve().parent, note)
    loaded.requires_grad_(False)  # what was never trained is no part of a light folder
    with written_folder(out) as folder:
        if keep_adapter:
            write_adapter(loaded, folder / ADAPTER_FOLDER)
        else:
            merge_lora(loaded)
        loaded.save_pretrained(folder, self_contained=self_contained)
        processor.save_pretrained(folder)
        write_card(folder, out.resolve().name, sections=sections, said_licence=licence)
    references = read_object(out / "config.json").get("references") or {}
    return sorted({entry["checkpoint"] for entry in references.values()})


def card_sections(loaded: nn.Module, run: Path, note: Callable[[str], None]) -> list[str]:
    """Return what the folder of a run knows of its model: recipe, data, and its own figures."""
    import torch

    from manyeyes.evaluation.tables.card import figures_section, stored_results
    from manyeyes.inference.fingerprint import answers_fingerprint
    from manyeyes.training.saving.card import sections_of_run

    training = sections_of_run(run)
    results, own = stored_results(run) if training else [], []
    for found in results:
        said = found["model"]
        dtypes = (None, torch.float32)
        marks = (answers_fingerprint(loaded, said["generation"], dtype) for dtype in dtypes)
        if said["fingerprint"] in marks:
            own.append(found)
        else:
            names = ", ".join(found["benchmarks"])
            note(f"the card leaves out figures of other weights in {run}: {names}")
    return [*training, figures_section(own)]
