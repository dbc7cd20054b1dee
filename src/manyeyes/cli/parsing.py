"""What goes wrong before a command begins: unknown commands, options and values.

With ``--json`` that too is one JSON object on stdout; people read the usual text on stderr.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from manyeyes.cli.output import error_object
from manyeyes.errors import UsageError

WORDS = "manyeyes.words"
"""In a context's ``meta``: the words after the command's name."""


class JsonCommand(TyperCommand):
    """A command whose wrong words are told in JSON as well where they hold ``--json``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = tuple(args)
        with _told(ctx, list(args)):
            return super().parse_args(ctx, args)


class JsonGroup(TyperGroup):
    """The same for the names of commands and for options before them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with _told(ctx, list(args)):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        with _told(ctx, list(args)):
            return super().resolve_command(ctx, args)


def resume_command(context: typer.Context) -> str:
    """Return the command as it was given, with ``--resume``."""
    words = [*context.command_path.split(), *context.meta[WORDS]]
    return shlex.join(words if "--resume" in words else [*words, "--resume"])


@contextmanager
def _told(ctx: Any, words: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        usage: Any = getattr(error, "format_message", None)  # click's, which typer may bring along
        if usage and "--json" in words and not ctx.resilient_parsing:
            sys.stdout.write(json.dumps(error_object(UsageError(usage()))) + "\n")
        raise
