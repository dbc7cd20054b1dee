"""Tokens as Stanford's PTBTokenizer 3.4.1 gives them, after the official list of dropped marks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from manyeyes.evaluation.scorers.ptb import ptb_tokens

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
    "": "",
}


@pytest.mark.parametrize("caption", list(JAVA))
def test_tokens_equal_those_of_the_java_program(caption: str) -> None:
    assert " ".join(ptb_tokens(caption)) == JAVA[caption]


@pytest.mark.slow
def test_against_java_where_it_is_present(tmp_path: Path) -> None:
    """Run the original on the captions above; needs java and STANFORD_CORENLP_JAR."""
    jar = os.environ.get("STANFORD_CORENLP_JAR")
    if shutil.which("java") is None or jar is None:
        pytest.skip("needs java and the path of stanford-corenlp-3.4.1.jar in STANFORD_CORENLP_JAR")
    captions = [caption for caption in JAVA if caption]
    source = tmp_path / "captions.txt"
    source.write_text("\n".join(captions), encoding="utf-8")
    program = "edu.stanford.nlp.process.PTBTokenizer"
    command = ["java", "-cp", jar, program, "-preserveLines", "-lowerCase", str(source)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    marks = set("'' ' `` ` . ? ! , : - -- ... ;".split())
    for caption, line in zip(captions, lines, strict=False):
        assert [word for word in line.split() if word not in marks] == list(ptb_tokens(caption))
