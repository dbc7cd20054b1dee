"""Two images of Flickr30k Entities in the official layout."""

from __future__ import annotations

from pathlib import Path

SENTENCES = {
    "101": (
        "[/EN#1/people Two men] in [/EN#2/clothing hats] watch [/EN#0/notvisual it] .\n"
        "[/EN#1/people/other The pair] stands near [/EN#3/scene a street] .\n"
    ),
    "102": "[/EN#7/animals A dog] runs .\n",
}
OBJECTS = {
    "101": {"1": [(11, 21, 31, 61), (51, 21, 71, 61)], "2": [(15, 11, 25, 21)], "3": []},
    "102": {"7": [(1, 1, 50, 50)]},
}


def write_entities(folder: Path, split: str = "test") -> Path:
    """Write the files; return the list of images."""
    for name in ("Sentences", "Annotations"):
        (folder / name).mkdir(exist_ok=True)
    for image, text in SENTENCES.items():
        (folder / "Sentences" / f"{image}.txt").write_text(text)
        (folder / "Annotations" / f"{image}.xml").write_text(_xml(image))
    path = folder / f"{split}.txt"
    path.write_text("101\n102\n")
    return path


def _xml(image: str) -> str:
    objects = []
    for chain, boxes in OBJECTS[image].items():
        for box in boxes:
            sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
            inside = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
            objects.append(f"<object><name>{chain}</name><bndbox>{inside}</bndbox></object>")
        if not boxes:
            flags = "<scene>1</scene><nobndbox>0</nobndbox>"
            objects.append(f"<object><name>{chain}</name>{flags}</object>")
    size = "<size><width>100</width><height>80</height><depth>3</depth></size>"
    return f"<annotation><filename>{image}.jpg</filename>{size}{''.join(objects)}</annotation>"
