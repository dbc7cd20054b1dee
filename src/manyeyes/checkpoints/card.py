"""The model card: ``README.md`` of a folder, as the hub shows it.

    ---            data for the hub: licence, the models that its parts were, how it is loaded
    # NAME         how to load it; its parts, with their licences and fingerprints
    ## ...         what whoever saves it knows besides: recipe, data, figures

A card of ours begins with a mark. A ``README.md`` without it is somebody else's, and stays.
Source: ours.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from manyeyes.checkpoints.hub import WORLD_SCHEME
from manyeyes.checkpoints.licences import licence, together
from manyeyes.checkpoints.model_files import read_object

CARD_FILE = "README.md"
MARK = "<!-- Written by manyeyes. Take this line out, and the page is yours: it stays as it is. -->"
CONFIG_FILE = "config.json"
_STOCK = (
    "This is the model card of a 🤗 transformers model that has been pushed on the Hub. This model "
    "card has been automatically generated."
)
"""What ``push_to_hub`` of transformers writes into its template where there is no card."""
_HEAD = re.compile(r"\A---\n.*?\n---\n", flags=re.DOTALL)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LOADING = """
```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{name}", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("{name}", trust_remote_code=True)
```

It needs the package manyeyes (`pip install manyeyes`); the code in this folder only imports it.
"""


def is_ours(file: Path) -> bool:
    """Whether a page may be written anew: it is none, has our mark, or is the stock one."""
    if not file.is_file():
        return True
    text = file.read_text(encoding="utf-8", errors="replace")
    return MARK in text or _body(text) == _body(_stock_page())


def write_card(
    folder: Path,
    name: str,
    *,
    instead_of: Path | None = None,
    sections: Sequence[str] = (),
    said_licence: str | None = None,
) -> None:
    """Write the card of the model in ``folder``, unless there is a page of somebody else.

    ``instead_of``: the folder whose place ``folder`` will take; a page of somebody else there is
    kept, too. The others: see `model_card`.
    """
    page, before = folder / CARD_FILE, None if instead_of is None else instead_of / CARD_FILE
    if before is not None and not is_ours(before):
        shutil.copyfile(before, page)
    elif is_ours(page):
        tags = _tags(page)
        config = read_object(folder / CONFIG_FILE)
        text = model_card(config, name, sections=sections, said_licence=said_licence, tags=tags)
        page.write_text(text, encoding="utf-8")


def model_card(
    config: Mapping[str, Any],
    name: str,
    *,
    sections: Sequence[str] = (),
    said_licence: str | None = None,
    tags: Sequence[str] = (),
) -> str:
    """Return the card of a model.

    Args:
        config: what its ``config.json`` holds. name: of its folder, or its id on the hub.
        sections: Markdown that follows, each with a heading.
        said_licence: of the whole; None = what the parts' licences come to. tags: more of them.
    """
    parts = _checkpoints(config)
    licences = {part: licence(checkpoint) for part, checkpoint in parts.items()}
    said: dict[str, Any] = (
        {"license": said_licence} if said_licence else together(licences.values())
    )
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=list(dict.fromkeys(["manyeyes", "custom_code", *tags])),
        base_model=sorted(filter(_on_the_hub, set(parts.values()))) or None,
        **said,
    )
    head = [f"---\n{data}\n---\n{MARK}", f"# {name}", _summary(config)]
    body = [_LOADING.format(name=name).strip(), _parts(config, parts, licences), _licence(said)]
    return "\n\n".join([*head, *body, *sections]) + "\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def shown(place: str) -> str:
    """Return a hub id or world part as it is, and of a path on this machine the name alone."""
    return place if place.startswith(WORLD_SCHEME) or _on_the_hub(place) else Path(place).name


def _stock_page() -> str:
    return str(ModelCard.from_template(ModelCardData(), model_description=_STOCK).content)


def _body(page: str) -> str:
    """The page below the data for the hub."""
    return _HEAD.sub("", page).strip()


def _tags(page: Path) -> list[str]:
    """Tags that were asked for when a page was pushed."""
    try:
        return [str(tag) for tag in _data(page).get("tags") or ()]
    except Exception:  # no page, or one that is damaged: it is written anew
        return []


def _data(page: Path) -> dict[str, Any]:
    return ModelCard(page.read_text(encoding="utf-8")).data.to_dict()


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _on_the_hub(checkpoint: str) -> bool:
    return _HUB_ID.fullmatch(checkpoint) is not None and not Path(checkpoint).exists()


def _checkpoints(config: Mapping[str, Any]) -> dict[str, str]:
    """Return part -> checkpoint of the parts that were trained before."""
    found = {f"encoder {one['name']}": one.get("checkpoint", "") for one in config["encoders"]}
    found["language model"] = config["language"].get("checkpoint", "")
    return {part: str(checkpoint) for part, checkpoint in found.items() if checkpoint}


def _summary(config: Mapping[str, Any]) -> str:
    names = [str(one["name"]) for one in config["encoders"]]
    said = ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)
    fusion, bridge = config["fusion"]["name"], config["bridge"]["name"]
    return (
        f"A language model that sees through {said}, joined by the fusion `{fusion}` and handed "
        f"over by the bridge `{bridge}`."
    )


def _parts(
    config: Mapping[str, Any], parts: Mapping[str, str], licences: Mapping[str, str | None]
) -> str:
    references = {
        _title(part): entry["sha256"] for part, entry in (config.get("references") or {}).items()
    }
    rows = [
        (
            part,
            f"`{shown(checkpoint)}`",
            licences[part] or "not known",
            f"no: from its checkpoint, sha256 `{references[part][:12]}…`"
            if part in references
            else "yes",
        )
        for part, checkpoint in parts.items()
    ]
    return f"## Parts\n\n{table(('part', 'checkpoint', 'licence', 'in this folder'), rows)}"


def _title(part: str) -> str:
    """The part's name in ``config.references`` as the card says it."""
    first, _, rest = part.partition(".")
    return f"encoder {rest.split('.')[0]}" if first == "encoders" else first.replace("_", " ")


def _licence(said: Mapping[str, str]) -> str:
    found = said.get("license_name", said["license"])
    why = {
        "unknown": "Not known: at least one part does not say its own. The table of parts says "
        "what is known.",
        "those-of-its-parts": "Those of its parts, in the table above, all of them together.",
    }
    return f"## Licence\n\n{why.get(found, f'`{found}`.')}"
