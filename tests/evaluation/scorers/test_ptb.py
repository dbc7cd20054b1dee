"""Tokens as Stanford's PTBTokenizer 3.4.1 gives them, after the official list of dropped marks."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from caption_sentences import caption_sentences
from manyeyes.evaluation.scorers import ptb
from manyeyes.evaluation.scorers.cider import cider_corpus
from manyeyes.evaluation.scorers.ptb import ptb_tokens

Tokens = tuple[str, ...]

# Right-hand sides are what the Java program printed for the left-hand sides.
JAVA = {
    "can't isn't man's cannot gonna $5 5:30pm #1 100% U.S. – … 1/2 10,000": (
        "ca n't is n't man 's can not gon na $ 5 5:30 pm # 1 100 % u.s. 1/2 10,000"
    ),
    "A man's best friend; it's o'clock.": "a man 's best friend it 's o'clock",
    "black/white and/or his/her w/ w/o": "black/white and/or his/her w / w/o",
    "5:30 pm 12/25/2010 3-4 3.5 .5 5. 1st": "5:30 pm 12/25/2010 3-4 3.5 .5 5 1st",
    "a t-shirt, x-ray & co. AT&T R&B rock n' roll": "a t-shirt x-ray & co. at&t r&b rock n roll",
    "\"hello\" he said, 'quoted' words' (paren) [brack] {curly}": (
        "hello he said quoted words -lrb- paren -rrb- -lsb- brack -rsb- -lcb- curly -rcb-"
    ),
    "Mr. Smith and Dr. Jones at St. Paul St. in the U.S. today.": (
        "mr. smith and dr. jones at st. paul st. in the u.s. today"
    ),
    "a dog... and cat. . .": "a dog and cat",
    "hello!!! what??? why?!": "hello !!! what ??? why ?!",
    "“curly” ‘single’ don’t man’s it’s": "curly single do n't man 's it 's",
    "y'all 'tis 'twas the dogs' tails": "y' all 't is 't was the dogs tails",
    "I'd've don't DON'T Can't couldn't've": "i 'd 've do n't do n't ca n't could n't 've",
    "a_b __init__ x*y ~ ^ | @ home @home #hash": "a_b __ init __ x * y ~ ^ | @ home @home #hash",
    "café naïve 日本語 emoji 😀 here": "café naïve 日本語 emoji here",
    "wanna gotta gimme lemme dunno": "wan na got ta gim me lem me dunno",
    "3x3 2x 5ft 6' 5\" tall 20% -5 +5 50°": "3x3 2x 5ft 6 5 tall 20 % -5 +5 50 °",
    "ice-cream -dash dash- a--b a - b": "ice-cream dash dash a b a b",
    'sign reads "STOP". a sign that says "stop."': "sign reads stop a sign that says stop",
    "a man,a woman;a dog:a cat.The end": "a man a woman a dog a cat.the end",
    "and 1950's '50s 1950s 80's": "and 1950 's '50s 1950s 80 's",
    "letter b. A man, letter b. the man": "letter b a man letter b. the man",
    "o'brien d'or l'amour ol' ma'am": "o'brien d'or l'amour ol' ma'am",
    "#5 no.5 No.": "# 5 no. 5 no",
    ":) ;) <3 ½ cup £5 €10 5¢": ":-rrb- ;-rrb- < 3 1/2 cup # 5 $ 10 5 cents",
    "in '99, in '99 or '62s, the '50s and ’80s": "in 99 in '99 or 62s the '50s and ’80s",
    "red,snow-covered. street,-5 grey,3D Sept.11": "red,snow-covered street,-5 grey ,3 d sept. 11",
    "C++ and C#, A+B, Dunkin' Donuts, playin' c'mon": "c++ and c# a+b dunkin' donuts playin c'mon",
    "o’clock y’all rock ’n’ roll ’til jack-o'-lantern": (
        "o’clock y’ all rock ’n’ roll ’til jack-o lantern"
    ),
    "a/b/c/d <b> <stop 5> 1½ x² ₹5 :'( =] ------ corp.,": (
        "a/b/c / d <b> < stop 5 > 1 1/2 x ² 5 :'-lrb- =] ------ corp."
    ),
    "IMG_1.jpg 12.png flickr.com/photos www.a.com's a@b.c's": (
        "img_1 jpg 12.png flickr.com/photos www.a.com 's a@b.c's"
    ),
    "(555) 555-1234 B&amp;B &lt;b&gt; P.M… SHE'S WE'RE": (
        "-lrb-555-rrb- 555-1234 b&b < b > p.m she 's we 're"
    ),
    "exhibit A. IN FRONT, letter b. the man, J. F. Kennedy woman....5 dogs": (
        "exhibit a in front letter b. the man j. f. kennedy woman 5 dogs"
    ),
    "": "",
}


@pytest.mark.parametrize("caption", list(JAVA))
def test_tokens_equal_those_of_the_java_program(caption: str) -> None:
    assert " ".join(ptb_tokens(caption)) == JAVA[caption]


def test_the_period_of_a_final_letter_ends_the_sentence() -> None:
    assert ptb_tokens("a box of vitamin C. ") == ("a", "box", "of", "vitamin", "c")
    assert ptb_tokens("J. K. Rowling")[:2] == ("j.", "k.")


def test_any_text_can_be_tokenised() -> None:
    signs = "".join(chr(code) for code in range(0x3000) if not 0xD800 <= code < 0xE000)
    assert all(token.strip() for token in ptb_tokens(signs))
    assert ptb_tokens("\U0001f600 \u200b \x00 \ufe0f") == ()


def test_shortcuts_give_the_tokens_of_all_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    words = "A I Wash. corp etc no 5 1/2 3rd x1 c++ isn't cannot e-mail U.S. b.c $9 man dog ' \" -"
    gaps = (" ", " ", ". ", ".", ",", '" ', "  ", "\t")
    captions = [
        "".join(draw.choice(words.split()) + draw.choice(gaps) for _ in range(draw.randint(1, 6)))
        for _ in range(2_000)
    ]
    short = [ptb_tokens.__wrapped__(caption) for caption in captions]
    never = re.compile(r"(?!)")
    monkeypatch.setattr(ptb, "_SIMPLE", never)
    monkeypatch.setattr(ptb, "_LAST", never)
    assert short == [ptb_tokens.__wrapped__(caption) for caption in captions]


def java_tokens(captions: list[str], folder: Path) -> list[Tokens]:
    """The official way: all captions in one file, one a line, and the official list of marks."""
    marks = set("'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;".split())
    source = folder / "captions.txt"
    source.write_text(
        "\n".join(caption.replace("\n", " ") for caption in captions), encoding="utf-8"
    )
    program = ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    command = ["java", "-cp", str(stanford_jar()), *program, str(source)]
    done = subprocess.run(command, capture_output=True, check=True)
    lines = done.stdout.decode("utf-8").split("\n")
    return [tuple(w for w in line.split() if w not in marks) for line in lines][: len(captions)]


def stanford_jar() -> Path:
    """That of an installed pycocoevalcap, or STANFORD_CORENLP_JAR; skips where there is none."""
    if shutil.which("java") is None:
        pytest.skip("needs java")
    named = os.environ.get("STANFORD_CORENLP_JAR")
    if named is not None:
        return Path(named)
    package = find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations:
        pytest.skip("needs pycocoevalcap, or the path of its jar in STANFORD_CORENLP_JAR")
    return Path(package.submodule_search_locations[0]) / "tokenizer" / "stanford-corenlp-3.4.1.jar"


def test_golden_tokens_against_java(tmp_path: Path) -> None:
    captions = [caption for caption in JAVA if caption]
    spaced = [text for caption in captions for text in (caption, "and so on")]
    expected = java_tokens(spaced, tmp_path)[::2]
    assert [ptb_tokens(caption) for caption in captions] == expected


def test_ten_thousand_hard_sentences_against_java(tmp_path: Path, world: Path) -> None:
    """At most one caption in a thousand differs, and CIDEr by at most 0.002."""
    annotations = json.loads((world / "annotations" / "captions_val.json").read_text())
    captions = caption_sentences(10_000)
    captions += [annotation["caption"] for annotation in annotations["annotations"]]
    expected = java_tokens(captions, tmp_path)
    ours = [ptb_tokens(caption) for caption in captions]
    assert sum(a != b for a, b in zip(ours, expected, strict=True)) <= len(captions) / 1000
    difference = cider_of(ours[:10_000]) - cider_of(expected[:10_000])
    assert abs(difference) <= 0.002


def cider_of(captions: list[Tokens]) -> float:
    """Images of four captions each; the answer is one of them without one word in five."""
    rng = random.Random(0)
    references = [captions[start : start + 4] for start in range(0, len(captions), 4)]
    answers = [tuple(word for word in group[0] if rng.random() < 0.8) for group in references]
    return cider_corpus(answers, references).score()
