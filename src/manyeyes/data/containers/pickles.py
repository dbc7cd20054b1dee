"""RefCOCO's pickles, read without running what a pickle may contain.

A pickle is a program. This reader allows lists, dictionaries, texts and numbers and refuses
everything that names a class or a function.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NoReturn

from manyeyes.errors import DataError

SUFFIXES = (".p", ".pickle", ".pkl")


class _PlainUnpickler(pickle.Unpickler):
    """Builds containers, texts and numbers only."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which plain data never does")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to objects outside the file")


def load_plain_pickle(path: str | Path) -> Any:
    """Load a pickle of plain data; texts of Python 2 are taken as Latin-1.

    Raises:
        DataError: missing, damaged, or more than plain data.
    """
    try:
        with open(path, "rb") as stream:
            found = _PlainUnpickler(stream, encoding="latin1").load()
        _check_keys(found)
        return found
    except FileNotFoundError as error:
        raise DataError("no such file", file=str(path)) from error
    except Exception as error:  # a damaged pickle makes the machine raise nearly everything
        message = f"is not a pickle of plain data: {error} ({type(error).__name__})"
        raise DataError(message, file=str(path)) from error


def _check_keys(found: Any) -> None:
    """Raise ``ValueError`` unless every dictionary has texts as keys, as those of JSON have."""
    waiting, seen = [found], set()
    while waiting:
        item = waiting.pop()
        if not isinstance(item, dict | list | tuple) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            wrong = next((key for key in item if not isinstance(key, str)), None)
            if wrong is not None or None in item:
                raise ValueError(f"expected texts as keys, got {wrong!r}")
            waiting.extend(item.values())
        else:
            waiting.extend(item)
