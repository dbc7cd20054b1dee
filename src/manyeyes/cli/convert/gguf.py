"""``manyeyes convert gguf``: a language model in GGUF, as a folder that recipes read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import CommonOptions, NewFolderOption
from manyeyes.files import refuse_unless_empty

EXAMPLES = (
    "manyeyes convert gguf SmolLM2-135M-Instruct.Q4_1.gguf --out smollm2",
    "manyeyes train comm/world-smollm2 --set model.language.checkpoint=smollm2",
)


def gguf(
    file: Annotated[Path, typer.Argument(metavar="FILE.gguf", help="A file of llama.cpp.")],
    out: NewFolderOption,
    *,
    common: CommonOptions,
) -> None:
    """Turn a GGUF file into a folder that a recipe names as its language model.

    Weights in few bits become bfloat16; tokenizer and chat template are the file's. It needs the
    extra gguf.
    """
    with common.session() as output:
        from manyeyes.convert.gguf import convert

        quiet_libraries(debug=common.debug)
        refuse_unless_empty(out)
        taken = convert(file, out)
        template = "with" if taken.chat_template else "without"
        output.line(
            f"{out}: {taken.model_type}, {taken.parameters:,} parameters, {taken.vocabulary:,} "
            f"tokens, {template} a chat template"
        )
        output.result({"out": out, **vars(taken)})
