"""ShareGPT: ``{conversations: [{from, value}], images: [path, ...], system}``.

Like LLaVA but with a list of images under ``images`` and an optional ``system`` text; roles may be
called ``human`` or ``user``, ``gpt`` or ``assistant``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import Row, SourceOptions
from manyeyes.data.readers.contract import Outcome, convert_rows
from manyeyes.data.readers.conversation import (
    build_sample,
    check_order,
    from_value_messages,
    image_list,
)
from manyeyes.records import Sample


def matches(record: Mapping[str, Any]) -> bool:
    """A record with ``conversations`` and ``images``."""
    return "conversations" in record and "images" in record


def parse_row(row: Row, options: SourceOptions) -> Sample:
    """Validate one record and return its sample; raises ``DataError``."""
    messages = from_value_messages(row)
    check_order(row, messages, "conversations", options)
    return build_sample(row, messages, image_list(row, options))


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per record."""
    return convert_rows(document, options, parse_row)
