"""Every key that a recipe may hold, read off the classes that check it: type, default, meaning.

    python -m manyeyes.recipes.finding.reference    writes recipes/keys.json and docs/keys.md again

Meanings are the texts that stand under the fields of the classes.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from transformers import TrainingArguments

from manyeyes.bridge import BRIDGES
from manyeyes.encoders import EncoderSpec, TaggerSpec
from manyeyes.files import write_text
from manyeyes.fusion import FUSIONS
from manyeyes.images.tiling import TilingOptions
from manyeyes.language import LanguageSpec
from manyeyes.layers.adapters.lora import LoraOptions
from manyeyes.layers.adapters.mixture import AdapterOptions
from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.perception.text import PerceptionOptions
from manyeyes.recipes.blocks import (
    DataSource,
    EvalRecipe,
    ObjectSource,
    PartTraining,
    TagsSource,
    WeightSource,
)
from manyeyes.recipes.finding.key_table import KEYS_FILE, Key, markdown
from manyeyes.recipes.model_block import NOT_IN_RECIPES
from manyeyes.recipes.schema import Recipe, StageRecipe, WorldRecipe
from manyeyes.recipes.training_fields import OWNED

DOCS_FILE = Path("docs/keys.md")

_BLOCKS: Mapping[str, type[Any]] = {
    "recipe": Recipe,
    "world": WorldRecipe,
    "stages": StageRecipe,
    "stages.train": PartTraining,
    "stages.train.lora": LoraOptions,
    "stages.data": DataSource,
    "stages.data.objects": ObjectSource,
    "stages.data.tags": TagsSource,
    "stages.start": WeightSource,
    "stages.eval": EvalRecipe,
    "encoders": EncoderSpec,
    "language": LanguageSpec,
    "tiling": TilingOptions,
    "perception_text": PerceptionOptions,
    "tagger": TaggerSpec,
    "bridge.adapters": AdapterOptions,
}


def reference() -> dict[str, dict[str, Key]]:
    """Return block -> key -> what it takes, in the order in which recipes are read."""
    parts = {f"fusion.{name}": cls.options_class for name, cls in FUSIONS.items()}
    parts |= {f"bridge.{name}": cls.options_class for name, cls in BRIDGES.items()}
    found = {name: dict(_keys(cls)) for name, cls in {**_BLOCKS, **parts}.items()}
    found["model"] = dict(_model_keys())
    found["training"] = dict(_training_keys())
    return found


def _keys(cls: type[Any]) -> Iterator[tuple[str, Key]]:
    said = _meanings(cls)
    for name, kind, default in _fields(cls):
        yield name, Key(kind, default, said.get(name, ""))


def _fields(cls: type[Any]) -> Iterator[tuple[str, str, str | None]]:
    hints = typing.get_type_hints(cls)
    if issubclass(cls, BaseModel):
        for name, field in cls.model_fields.items():
            required = field.is_required()
            yield name, _written(hints[name]), None if required else _shown(field.default)
        return
    for one in dataclasses.fields(cls):
        default: str | None = None
        if one.default is not dataclasses.MISSING:
            default = _shown(one.default)
        elif one.default_factory is not dataclasses.MISSING:
            default = _shown(one.default_factory())
        yield one.name, _written(hints[one.name]), default


def _model_keys() -> Iterator[tuple[str, Key]]:
    parameters = inspect.signature(ManyEyesConfig.__init__).parameters
    names = [name for name in parameters if name not in NOT_IN_RECIPES]
    said = _arguments(ManyEyesConfig)
    hints = typing.get_type_hints(ManyEyesConfig.__init__)
    for name in names:
        default = _shown(parameters[name].default)
        yield name, Key(_written(hints[name]), default, said.get(name, ""))


def _training_keys() -> Iterator[tuple[str, Key]]:
    hints = typing.get_type_hints(TrainingArguments)
    for field in dataclasses.fields(TrainingArguments):
        if field.init and field.name not in OWNED:
            default = "" if field.default is dataclasses.MISSING else _shown(field.default)
            yield field.name, Key(_written(hints[field.name]), default, "")


def _written(kind: Any) -> str:
    """A type as people read it."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return ", ".join(map(str, inside))
    if origin in (typing.Union, types.UnionType):
        named = [_written(one) for one in inside if one is not type(None)]
        nothing = ["nothing"] if type(None) in inside else []
        return " or ".join(dict.fromkeys(named + nothing))
    if origin is typing.Annotated:
        return _written(inside[0])
    plain = origin or kind
    if isinstance(plain, type):
        if issubclass(plain, Mapping) or dataclasses.is_dataclass(plain):
            return "block"
        if issubclass(plain, BaseModel):
            return "block"
        if issubclass(plain, Sequence) and plain is not str:
            return f"list of {_written(inside[0])}" if inside else "list"
        return _WORDS.get(plain, plain.__name__)
    return "anything"


_WORDS: Mapping[type[Any], str] = {
    str: "text",
    bool: "true or false",
    int: "whole number",
    float: "number",
}


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if dataclasses.is_dataclass(value) or isinstance(value, BaseModel):
        return "its own defaults"
    if isinstance(value, tuple | list | set | frozenset):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return str(getattr(value, "value", value))


def _meanings(cls: type[Any]) -> dict[str, str]:
    """Field -> the text that stands under it, in the class or in the base that has it."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("manyeyes"):
            found |= dict(_under_fields(base))
    return found


def _under_fields(cls: type[Any]) -> Iterator[tuple[str, str]]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    for field, below in pairwise(tree.body):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(said))),
            ):
                yield name, " ".join(said.split())


def _arguments(cls: type[Any]) -> dict[str, str]:
    """Argument -> what the ``Args`` of a class's docstring say of it."""
    text = inspect.cleandoc(cls.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
    said = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", text, flags=re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in said}


def write(docs: Path = DOCS_FILE) -> None:
    """Write the file that ships and the page of the docs."""
    found = reference()
    plain = {
        block: {name: dataclasses.asdict(key) for name, key in keys.items()}
        for block, keys in found.items()
    }
    write_text(KEYS_FILE, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
    write_text(docs, markdown(found))


if __name__ == "__main__":
    write()
