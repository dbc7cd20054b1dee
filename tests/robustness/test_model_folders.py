"""Damaged model folders: each is a named error, or answers exactly as the whole folder does."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attacks import damaged_bytes, run

Change = Callable[[Path], None]


@dataclass(frozen=True)
class Whole:
    """Undamaged folders of one model, a picture, and what the model answers about it."""

    root: Path
    picture: Path
    answer: str

    def copy(self, form: str, target: Path) -> Path:
        """Return a copy of the folder ``form``, one of light, full and sharded."""
        shutil.copytree(self.root / form, target)
        return target


def ask(folder: Path, picture: Path) -> Any:
    return run("chat", folder, "--image", picture, "--prompt", "What?", "--max-new-tokens", "6")


@pytest.fixture(scope="session")
def whole(build: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The tiny COMM model as a light, a self-contained and a sharded folder."""
    root = tmp_path_factory.mktemp("whole")
    model, processor = build()
    model.encoders.requires_grad_(False)
    model.language_model.requires_grad_(False)
    forms: Mapping[str, Mapping[str, Any]] = {
        "light": {},
        "full": {"self_contained": True},
        "sharded": {"self_contained": True, "max_shard_size": "40KB"},
    }
    for form, options in forms.items():
        model.save_pretrained(root / form, **options)
        processor.save_pretrained(root / form)
    picture = root / "picture.png"
    noise = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(picture)
    answers = {ask(root / form, picture).report["answer"] for form in forms}
    assert len(answers) == 1
    return Whole(root, picture, answers.pop())


def change(file: str, **values: Any) -> Change:
    """Set keys of a JSON file; dots lead inside, numbers are places of lists, ... takes out."""

    def act(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        for path, value in values.items():
            *way, last = [int(key) if key.isdigit() else key for key in path.split("__")]
            place = content
            for key in way:
                place = place[key]
            if value is ...:
                del place[last]
            else:
                place[last] = value
        (folder / file).write_text(json.dumps(content))

    return act


def put(file: str, data: bytes | str) -> Change:
    return lambda folder: (
        (folder / file).write_bytes(
            data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        )
        and None
    )  # type: ignore[func-returns-value]


def cut(file: str, share: float) -> Change:
    def act(folder: Path) -> None:
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[: int(len(data) * share)])

    return act


def drop(file: str) -> Change:
    return lambda folder: (folder / file).unlink()


def folder_instead(file: str) -> Change:
    def act(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).mkdir()

    return act


def fifo_instead(file: str) -> Change:
    def act(folder: Path) -> None:
        (folder / file).unlink()
        os.mkfifo(folder / file)

    return act


def loop_instead(file: str) -> Change:
    def act(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).symlink_to(file)

    return act


def header(file: str, edit: Callable[[dict[str, Any]], Any]) -> Change:
    """Change the header of a safetensors file."""

    def act(folder: Path) -> None:
        data = (folder / file).read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        content = json.loads(data[8 : 8 + size])
        edit(content)
        text = json.dumps(content).encode()
        (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return act


def first(content: dict[str, Any]) -> dict[str, Any]:
    """The entry of a header's first tensor."""
    found: dict[str, Any] = next(value for key, value in content.items() if key != "__metadata__")
    return found


C, G, P, T, J = (
    "config.json",
    "generation_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
)
W, INDEX, S, X = (
    "model.safetensors",
    "model.safetensors.index.json",
    "model-00001-of-00007.safetensors",
    "chat_template.jinja",
)
NOT_JSON = {
    "empty": "",
    "space": " \n",
    "half": '{"model_type": "manyeyes", ',
    "list": "[]",
    "number": "5",
    "null": "null",
    "text": '"x"',
    "deep": "[" * 100_000,
    "deep object": '{"a":' * 100_000,
    "long number": '{"a": ' + "9" * 5000 + "}",
    "latin": b'{"a": "\xe9"}',
    "utf16": '{"a": 1}'.encode("utf-16"),
    "zeros": bytes(100),
    "nan": '{"model_type": NaN}',
}
BROKEN = {kind: data for kind, data in NOT_JSON.items() if kind != "nan"}
ERRORS: dict[str, Change] = {
    **{f"config {kind}": put(C, data) for kind, data in NOT_JSON.items()},
    **{f"generation {kind}": put(G, data) for kind, data in NOT_JSON.items() if kind != "nan"},
    **{f"processor {kind}": put(P, data) for kind, data in NOT_JSON.items()},
    **{
        f"tokenizer config {kind}": put(T, data) for kind, data in NOT_JSON.items() if kind != "nan"
    },
    **{f"tokenizer {kind}": put(J, data) for kind, data in NOT_JSON.items()},
    "config missing": drop(C),
    "config a folder": folder_instead(C),
    "config a fifo": fifo_instead(C),
    "config a loop": loop_instead(C),
    "kind missing": change(C, model_type=...),
    "kind another": change(C, model_type="llama"),
    "kind a number": change(C, model_type=5),
    "kind a list": change(C, model_type=[]),
    "no encoders": change(C, encoders=[]),
    "encoders null": change(C, encoders=None),
    "encoders a text": change(C, encoders="clip"),
    "encoders numbers": change(C, encoders=[1]),
    "encoder without name": change(C, encoders__0__name=...),
    "encoder of no family": change(C, encoders__0__family="clop"),
    "encoder's family a list": change(C, encoders__0__family=[]),
    "encoder's levels none": change(C, encoders__0__levels=[]),
    "encoder's levels texts": change(C, encoders__0__levels=["x"]),
    "encoder's levels far": change(C, encoders__0__levels=[99]),
    "encoder's levels null": change(C, encoders__0__levels=None),
    "encoder's image size 0": change(C, encoders__0__image_size=-4),
    "encoder's image size text": change(C, encoders__0__image_size="16"),
    "two encoders alike": change(C, encoders__1__name="clip"),
    "backbone a text": change(C, encoders__0__backbone="x"),
    "backbone's width 0": change(C, encoders__0__backbone__hidden_size=0),
    "backbone's width text": change(C, encoders__0__backbone__hidden_size="16"),
    "backbone's width other": change(C, encoders__0__backbone__hidden_size=32),
    "backbone's patches 0": change(C, encoders__0__backbone__patch_size=0),
    "backbone's blocks -1": change(C, encoders__0__backbone__num_hidden_layers=-1),
    "backbone's blocks more": change(C, encoders__0__backbone__num_hidden_layers=4),
    "backbone's heads 3": change(C, encoders__0__backbone__num_attention_heads=3),
    "backbone's activation": change(C, encoders__0__backbone__hidden_act="gelu_x"),
    "backbone huge": change(C, encoders__0__backbone__hidden_size=10**12),
    "fusion null name": change(C, fusion__name=None),
    "fusion unknown": change(C, fusion__name="com"),
    "fusion a list": change(C, fusion=[]),
    "fusion's key unknown": change(C, fusion__mlps=2),
    "bridge a number": change(C, bridge=3),
    "bridge's switch a text": change(C, bridge__start_end="no"),
    "language a text": change(C, language="x"),
    "language's config wrong": change(C, text_config__hidden_size="x"),
    "language without kind": change(C, text_config__model_type=...),
    "language null": change(C, text_config__vocab_size=None),
    "language's words fewer": change(C, text_config__vocab_size=100),
    "language's words none": change(C, text_config__vocab_size=0),
    "language's heads 5": change(C, text_config__num_attention_heads=5),
    "language's rope": change(C, text_config__rope_parameters={"rope_type": "x"}),
    "geometry another": change(C, geometry="squash"),
    "geometry unknown": change(C, geometry="cut"),
    "color of two": change(C, pad_color=[1, 2]),
    "color a text": change(C, pad_color="white"),
    "prompts another": change(C, prompt_style="plain"),
    "boxes another": change(C, box_style="unknown"),
    "image tokens null": change(C, image_tokens=None),
    "image tokens fewer": change(C, image_tokens=[260]),
    "image tokens others": change(C, image_tokens=[5, 6, 7, -1]),
    "image tokens texts": change(C, image_tokens=["a", "b", "c", "d"]),
    "dtype unknown": change(C, dtype="float99"),
    "quantized": change(C, quantization_config={"quant_method": "gptq", "bits": 4}),
    "quantized badly": change(C, quantization_config="x"),
    "max_tokens text": change(C, max_tokens="many"),
    "processor missing": drop(P),
    "processor's size text": change(P, encoders__0__size="16"),
    "processor's size another": change(P, encoders__0__size=[12, 12]),
    "processor's mean short": change(P, encoders__0__mean=[0.5]),
    "processor's mean another": change(P, encoders__0__mean=[0.1, 0.2, 0.3]),
    "processor's spread 0": change(P, encoders__0__std=[0, 0, 0]),
    "processor's encoder missing": change(P, encoders__1=...),
    "processor's encoder's name": change(P, encoders__1__name="dino"),
    "processor's filter": change(P, encoders__0__resample="best"),
    "processor's tokens": change(P, visual_tokens=15),
    "processor's tokens text": change(P, visual_tokens="16"),
    "processor's geometry": change(P, geometry="squash"),
    "processor's prompts": change(P, prompt_style="plain"),
    "processor's reader": change(P, reader={"kind": "question", "length": 5}),
    "processor's reader a text": change(P, reader="question"),
    "processor's markers": change(P, start_end=False),
    "processor's order": change(P, answers_in_sequence=False),
    "tokenizer's files missing": drop(J),
    "tokenizer's class a list": change(T, tokenizer_class=[]),
    "tokenizer's config missing": drop(T),
    "tokenizer without its type": change(J, model__type="Bogus"),
    "tokenizer's words a list": change(J, model__vocab=["a"]),
    "tokenizer's words none": change(J, model__vocab={}),
    "tokenizer without added": change(J, added_tokens=[], model__vocab={"a": 0}),
    "end token a number": change(T, eos_token=7),
    "weights missing": drop(W),
    "weights empty": put(W, b""),
    "weights half": cut(W, 0.5),
    "weights almost": cut(W, 0.999),
    "weights a text": put(
        W, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    ),
    "weights' header long": put(W, struct.pack("<Q", 2**63) + b"{}"),
    "weights' header no JSON": put(W, struct.pack("<Q", 5) + b"{abc}"),
    "weights a folder": folder_instead(W),
    "weights' shape": header(W, lambda head: first(head).update(shape=[1])),
    "weights' places": header(W, lambda head: first(head).update(data_offsets=[0, 10**9])),
    "weights' dtype": header(W, lambda head: first(head).update(dtype="F99")),
    "template binary": put(X, b"\xff\xfe\x00"),
    "generation cache": change(G, cache_implementation="bogus"),
    "generation beams -1": change(G, num_beams=-1),
    "generation beams text": change(G, num_beams="x"),
    "generation end text": change(G, eos_token_id="x"),
    "generation penalty 0": change(G, repetition_penalty=0),
    "generation temperature": change(G, do_sample=True, temperature="hot"),
    "generation temperature 0": change(G, do_sample=True, temperature=-1.0),
    "generation end none": change(G, eos_token_id=[]),
    "generation end negative": change(G, eos_token_id=[2, -1]),
    "generation pad a list": change(G, pad_token_id=[0]),
    "generation penalty nan": change(G, repetition_penalty=float("nan")),
    "generation suppressed texts": change(G, suppress_tokens=["x"]),
    "generation words": change(G, bad_words_ids=[[]]),
    "generation repeats": change(G, no_repeat_ngram_size=-1),
    "generation length 0": change(G, max_new_tokens=0),
}
"""Damages of the light folder that must be errors."""

SAME: dict[str, Change] = {
    "generation missing": drop(G),
    "generation unused": change(G, do_sample=False, temperature=0, top_p=None),
    "generation penalty 1": change(G, repetition_penalty=1),
    "more keys": change(C, some_other_tool="x"),
    "bytes mark": lambda folder: (
        (folder / C).write_text((folder / C).read_text() + "\n\n") and None
    ),
    "another file": lambda folder: (folder / "notes.json").write_text("{") and None,
}
"""Changes of the light folder that change nothing."""

EITHER: dict[str, Change] = {
    "tokenizer config nan": put(T, NOT_JSON["nan"]),
    "language unknown": change(C, text_config__model_type="lama"),
    "processor's key unknown": change(P, bogus=1),
    "tokenizer's class unknown": change(T, tokenizer_class="NoSuchTokenizer"),
    "tokenizer's ids twice": change(J, added_tokens__0__id=5),
    "template a folder": folder_instead(X),
    "template escapes": put(X, "{{ ''.__class__.__mro__[1].__subclasses__() }}"),
    "template fails": put(X, "{{ raise_exception('no') }}"),
    "template no jinja": put(X, "{% for x in %}"),
    "template open": put(X, "{% if true %}"),
    "template's names": put(X, "{{ nothing.at.all }}"),
}
"""Damages of what this model does not need: an error, or the right answer."""

SHARDS: dict[str, Change] = {
    **{f"index {kind}": put(INDEX, data) for kind, data in NOT_JSON.items() if kind != "nan"},
    "index without map": change(INDEX, weight_map=...),
    "index's map a list": change(INDEX, weight_map=[]),
    "index's map empty": change(INDEX, weight_map={}),
    "index's file a number": change(INDEX, weight_map={"fusion.x": 5}),
    "index's file outside": change(INDEX, weight_map={"fusion.x": "../../../etc/passwd"}),
    "shard missing": drop(S),
    "shard half": cut(S, 0.5),
    "shard empty": put(S, b""),
    "shard a folder": folder_instead(S),
}
"""Damages of the sharded folder that must be errors."""


ALL = {
    **{("light", name): (act, "error") for name, act in ERRORS.items()},
    **{("sharded", name): (act, "error") for name, act in SHARDS.items()},
    **{("light", name): (act, "same") for name, act in SAME.items()},
    **{("light", name): (act, "either") for name, act in EITHER.items()},
}
QUICK = random.Random(0).sample(sorted(ALL), 24)
"""Those of the default suite; the others are marked slow."""


def judge(whole: Whole, target: Path, key: tuple[str, str]) -> None:
    form, _ = key
    act, wanted = ALL[key]
    folder = whole.copy(form, target)
    act(folder)
    end = ask(folder, whole.picture)
    if wanted == "error" or (wanted == "either" and end.error):
        assert end.error, end.report
    else:
        assert end.report.get("answer") == whole.answer, end.report


@pytest.mark.parametrize("key", QUICK, ids="-".join)
def test_a_damaged_folder_is_an_error(key: tuple[str, str], whole: Whole, tmp_path: Path) -> None:
    judge(whole, tmp_path / "model", key)


@pytest.mark.slow
@pytest.mark.parametrize("key", sorted(set(ALL) - set(QUICK)), ids="-".join)
def test_every_damage_is_an_error(key: tuple[str, str], whole: Whole, tmp_path: Path) -> None:
    judge(whole, tmp_path / "model", key)


def random_damage(folder: Path, random_: random.Random) -> tuple[bool, str]:
    """Damage one file; return whether the answer may change, and what was done.

    Nothing tells a changed number in weights or in a vocabulary from a right one.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    file, other = random_.sample(files, 2)
    kind = random_.choice(("bytes", "bytes", "cut", "cut", "remove", "foreign", "noise"))
    data = file.read_bytes()
    if kind == "remove":
        file.unlink()
    elif kind == "bytes":
        file.write_bytes(damaged_bytes(data, random_)[0])
    elif kind == "cut":
        file.write_bytes(data[: random_.randrange(len(data))])
    elif kind == "foreign":
        file.write_bytes(other.read_bytes())
    else:
        file.write_bytes(random_.randbytes(random_.randrange(1, 300)))
    # generation's file and the template's are one of several right ones
    free = kind == "bytes" or file.name in (G, X)
    return free, f"{kind} {file.name} ({other.name})"


def attack(whole: Whole, form: str, seed: int, times: int, folder: Path) -> tuple[int, int]:
    """Return how many damages were refused, and how many did not matter."""
    random_, refused = random.Random(f"{form} {seed}"), 0
    for number in range(times):
        target = whole.copy(form, folder / str(number))
        free, what = random_damage(target, random_)
        try:
            end = ask(target, whole.picture)
        except AssertionError as error:
            raise AssertionError(what) from error
        refused += bool(end.error)
        assert end.error or free or end.report["answer"] == whole.answer, what
    return refused, times - refused


@pytest.mark.parametrize("form", ["light", "sharded"])
def test_a_folder_damaged_at_random_is_refused_or_answers(
    form: str, whole: Whole, tmp_path: Path
) -> None:
    assert attack(whole, form, 0, 4, tmp_path)[0] > 0


@pytest.mark.slow
@pytest.mark.parametrize("form", ["light", "full", "sharded"])
def test_many_folders_damaged_at_random(form: str, whole: Whole, tmp_path: Path) -> None:
    refused, answered = attack(whole, form, 1, 60, tmp_path)
    print(f"{form}: {refused} refused, {answered} answered")
    assert refused > 20
