"""``manyeyes serve``: a model behind the OpenAI API."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import (
    ModelArgument,
    ModelOptions,
)
from manyeyes.cli.output import Output
from manyeyes.errors import UsageError

if TYPE_CHECKING:
    from manyeyes.serving.api.engine import Engine
    from manyeyes.serving.api.limits import Limits
    from manyeyes.serving.api.metrics import Metrics

EXAMPLES = (
    "manyeyes serve demo/model",
    "manyeyes serve runs/comm/model --host 0.0.0.0 --port 8000 --api-key SECRET",
)
KEY = "MANYEYES_API_KEY"
MISSING = "manyeyes serve needs the extra: pip install 'manyeyes[serve]' ({})"


@dataclass(frozen=True)
class AccessOptions:
    """Who may ask, and what the server may fetch."""

    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar=KEY,
            help="Every request must carry this key; the variable keeps it out of process lists.",
        ),
    ] = None
    allow_hosts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Fetch images from this host when a request names it. May be repeated.",
        ),
    ] = None


@dataclass(frozen=True)
class LimitOptions:
    """How much a request, and all of them together, may take."""

    batch: Annotated[int, typer.Option(min=1, help="Requests that are answered together.")] = 8
    queue: Annotated[int, typer.Option(min=1, help="Requests that wait; more get 429.")] = 64
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 1024
    max_images: Annotated[int, typer.Option(min=1, help="Images in one request.")] = 8
    max_pixels: Annotated[int, typer.Option(min=1, help="Pixels of one image.")] = 2**24
    max_body: Annotated[int, typer.Option(min=1, help="MiB of one request.")] = 20
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one request.")] = 120.0

    def limits(self) -> Limits:
        """Return them as the server takes them."""
        from manyeyes.serving.api.limits import Limits

        return Limits(
            body=self.max_body * 2**20,
            images=self.max_images,
            pixels=self.max_pixels,
            tokens=self.max_tokens,
            seconds=self.timeout,
            queue=self.queue,
            batch=self.batch,
        )


def serve(
    model: ModelArgument,
    host: Annotated[
        str, typer.Option(help="Where to listen; 0.0.0.0 lets other machines in.")
    ] = "localhost",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="Name of the model in requests. [default: MODEL as given]")
    ] = None,
    *,
    access: AccessOptions,
    limited: LimitOptions,
    common: ModelOptions,
) -> None:
    """Serve a model to OpenAI clients and as a web page.

    Chat completions with images as data URLs, streaming, /v1/models, /health, /metrics, and a page
    for the browser at /. Remote images and files of this machine are refused. Ctrl-C and SIGTERM
    end the server when what was asked is answered; --json then gives its counters.
    """
    with common.session() as output:
        try:
            from manyeyes.serving.api.app import build_app
            from manyeyes.serving.api.metrics import Metrics
            from manyeyes.serving.api.run import is_local, listen, own_hosts, run
        except ImportError as error:
            raise UsageError(MISSING.format(error)) from error

        quiet_libraries(debug=common.debug)
        if not is_local(host) and not access.api_key:
            output.note(f"warning: anyone who reaches {host} can use this server; see --api-key")
        limits, metrics = limited.limits(), Metrics()
        with listen(host, port) as socket:
            engine = _engine(output, model, limits, metrics, common)
            app = build_app(
                engine,
                name or model,
                log=output.note,
                key=access.api_key,
                own_hosts=own_hosts(host),
                image_hosts=[each.lower() for each in access.allow_hosts or ()],
                explain=_explainer(engine.sight),
            )
            shown = f"[{host}]" if ":" in host else host
            url = f"http://{shown}:{socket.getsockname()[1]}"
            output.note(f"{name or model} at {url} (API: {url}/v1)")
            run(app, socket, limits)
        output.note("stopped; everything asked was answered")
        output.result({"model": name or model, "url": url, "counters": metrics.values()})


def _engine(
    output: Output, model: str, limits: Limits, metrics: Metrics, common: ModelOptions
) -> Engine:
    """Load the model and let it wait for requests."""
    from manyeyes.inference.seen_images import Sight
    from manyeyes.inference.tagging import own_tagger
    from manyeyes.model.loading import load_model
    from manyeyes.serving.api.engine import Engine

    loaded, processor = load_model(model, dtype=common.dtype, device=common.device)
    sight = Sight(loaded, processor, own_tagger(loaded))
    return Engine(sight, limits, metrics, _faults(output, debug=common.debug))


def _faults(output: Output, *, debug: bool) -> Any:
    """What happens to mistakes in the program: a line, and with --debug where they were made."""
    import traceback

    def tell(error: Exception) -> None:
        if debug:
            output.note("".join(traceback.format_exception(error)))
        output.complain(error)

    return tell


def _explainer(sight: Any) -> Any:
    """A function from a picture and a question to the page of ``manyeyes explain``."""

    def explain(picture: Any, question: str) -> str:
        from manyeyes.inference.perceived import PerceivedImages, named_tags
        from manyeyes.inference.predictor import ModelPredictor
        from manyeyes.study.explanation import explain as study
        from manyeyes.study.explanation.page import write_explanation

        tags = list(sight.tags(picture)) if sight.model.config.tags != "none" else None
        perceived = PerceivedImages(named_tags(sight.model, tags))
        base = ModelPredictor(sight.model, sight.processor, perceived=perceived)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "image.png"
            picture.save(file)
            page = write_explanation(
                study.explain(base, str(file), question), Path(folder) / "page.html"
            )
            return page.read_text()

    return explain
