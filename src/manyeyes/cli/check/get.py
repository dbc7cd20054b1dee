"""``manyeyes data get``: what a benchmark's files are, where they come from, and what is there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyeyes.cli.options import CommonOptions
from manyeyes.cli.output import Output
from manyeyes.errors import UsageError

if TYPE_CHECKING:
    from manyeyes.evaluation.benchmarks.published import Found, Published

EXAMPLES = (
    "manyeyes data get cv-bench",
    "manyeyes data get mmvp --data benchmarks/mmvp --fetch",
)


def get(
    benchmark: Annotated[
        str, typer.Argument(metavar="BENCHMARK", help="One of `manyeyes score --list`.")
    ],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Its folder; as a rule DIR is its name.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="The split; as a rule the one that is reported.")
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download the files from huggingface.co into DIR.")
    ] = False,
    *,
    common: CommonOptions,
) -> None:
    """Say where a benchmark's files come from and check those that are there.

    The check reads them as an evaluation does: sizes, hashes that were published, the number of
    questions, images. Nothing is downloaded without --fetch, and only from huggingface.co.
    """
    with common.session() as output:
        from manyeyes.evaluation.benchmarks import get_benchmark
        from manyeyes.evaluation.benchmarks.published import PUBLISHED, look_at

        chosen, source = get_benchmark(benchmark), PUBLISHED.get(benchmark)
        folder = data or Path(benchmark)
        asked = split or (source.split if source is not None else "test")
        if fetch:
            if source is None or source.hub is None:
                raise UsageError(f"{benchmark!r} has no data set on huggingface.co to fetch")
            _fetch(source.hub, source.only, folder)
        found = look_at(chosen, folder, asked, source)
        expected = [name.format(split=asked) for name in chosen.files]
        output.line(f"{benchmark}: {chosen.description}")
        _show_source(output, source, folder)
        output.line(f"expects  one of {', '.join(expected)}")
        _show_found(output, found)
        if not found.wrong:
            output.line(
                f"next     manyeyes evaluate MODEL --benchmark {benchmark} --data {folder} "
                f"--split {asked}"
            )
        output.result(
            {
                "benchmark": benchmark,
                "split": asked,
                "source": None if source is None else asdict(source),
                "expects": expected,
                "files": dict(found.files),
                "questions": found.questions,
                "wrong": list(found.wrong),
            }
        )


def _show_source(output: Output, source: Published | None, folder: Path) -> None:
    if source is not None and source.hub is not None:
        patterns = " ".join(f"--include '{pattern}'" for pattern in source.only)
        output.line(f"from     huggingface.co/datasets/{source.hub}")
        output.line(
            f"         hf download {source.hub} --repo-type dataset {patterns} --local-dir {folder}"
        )
    for url in () if source is None else source.urls:
        output.line(f"from     {url}")
    if source is None:
        output.line("from     no public source is known here")
    elif source.note:
        output.line(f"         {source.note}")


def _show_found(output: Output, found: Found) -> None:
    for path, size in found.files.items():
        output.line(f"found    {path}, {size:,} bytes")
    for text in found.wrong:
        output.line(f"wrong    {text}")
    if not found.wrong:
        output.line(f"there    {found.questions:,} questions and their images")


def _fetch(hub: str, patterns: tuple[str, ...], folder: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        snapshot_download(hub, repo_type="dataset", allow_patterns=list(patterns), local_dir=folder)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UsageError(f"huggingface.co/datasets/{hub} cannot be fetched: {error}") from error
