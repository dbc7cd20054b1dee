"""``manyeyes explain``: one answer, and what it came from, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import (
    ModelArgument,
    ModelOptions,
)

EXAMPLES = (
    'manyeyes explain runs/comm/model photo.jpg "Where is the cup?" --out cup.html',
    'manyeyes explain runs/lion/model photo.jpg "Is it raining?" --tags "street,umbrella" --json',
)


def explain(
    model: ModelArgument,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image asked about.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What is asked.")],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="Where the page goes.")] = Path(
        "explanation.html"
    ),
    tags: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Tags of the image, for models that read them; default: what the tagger finds.",
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 64,
    *,
    common: ModelOptions,
) -> None:
    """Answer one question and show what the answer came from, in one HTML page.

    Asked again with each encoder masked and with tags and objects left out, it says what the answer
    depended on. Beside that stand the weights of levels, where the fusion's attention lay in the
    image, and what the detector found. Attention is weak evidence; masking is the stronger.
    """
    with common.session() as output:
        from manyeyes.cli.study.tables import masking_table
        from manyeyes.inference.perceived import PerceivedImages, named_tags
        from manyeyes.inference.predictor import ModelPredictor
        from manyeyes.model.loading import load_model
        from manyeyes.study.explanation import explain as study
        from manyeyes.study.explanation.page import write_explanation

        quiet_libraries(debug=common.debug)
        loaded, processor = load_model(model, dtype=common.dtype, device=common.device)
        named = None if tags is None else [n.strip() for n in tags.split(",") if n.strip()]
        base = ModelPredictor(
            loaded,
            processor,
            max_new_tokens={"short": max_new_tokens},
            perceived=PerceivedImages(named_tags(loaded, named)),
        )
        with output.progress() as report:
            found = study.explain(base, image, question, report)
        page = write_explanation(found, out)
        output.line(found.answer)
        output.show(masking_table(found))
        output.line(f"page: {page}")
        if found.caution:
            output.note(found.caution)
        output.result({**found.to_json(), "out": page})
