"""``manyeyes export``: a trained model as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import DebugOption, JsonOption, ModelArgument, TrustOption
from manyeyes.cli.output import session
from manyeyes.files import refuse_unless_empty, written_folder

EXAMPLES = (
    "manyeyes export runs/comm/model --out comm-full --self-contained",
    "manyeyes export runs/comm/model --out comm-light",
)


def export(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; new or empty.")],
    self_contained: Annotated[
        bool,
        typer.Option("--self-contained", help="Write frozen parts too: no other checkpoint needed"),
    ] = False,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write model and processor as a folder for transformers and the hub.

    Without --self-contained it holds what was trained, and names the frozen parts with their
    fingerprints.
    """
    with session(as_json=as_json, debug=debug, trust=trust_remote_code) as output:
        from manyeyes.model.loading import load_model

        quiet_libraries(debug=debug)
        refuse_unless_empty(out)
        loaded, processor = load_model(model, device="cpu")
        with written_folder(out) as folder:
            loaded.save_pretrained(folder, self_contained=self_contained)
            processor.save_pretrained(folder)
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        references = {} if self_contained else loaded.config.references
        needs = sorted({entry["checkpoint"] for entry in references.values()})
        output.line(f"{out}: {size / 2**20:.1f} MiB")
        for checkpoint in needs:
            output.line(f"  needs {checkpoint}")
        output.result({"out": out, "bytes": size, "self_contained": self_contained, "needs": needs})
