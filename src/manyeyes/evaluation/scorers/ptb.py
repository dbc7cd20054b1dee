"""Penn Treebank tokens of captions without Java, for CIDEr, BLEU and ROUGE-L.

Reproduces what pycocoevalcap gets from Stanford's PTBTokenizer 3.4.1 (``-preserveLines
-lowerCase``) with its list of dropped punctuation: one scan with one pattern, longest kinds first.
Because the text is lower-cased, brackets come out as ``-lrb-`` and are kept, as in the original.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

_DROPPED = frozenset("' '' ` `` . ? ! , : - -- --- ... ; \"".split())

_SPELLED: Mapping[str, str] = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    "£": "#",
    "€": "$",
    "¢": "cents",
    "½": "1/2",
    "¼": "1/4",
    "¾": "3/4",
}

_PLAIN = str.maketrans(
    {
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
        "«": '"',
        "»": '"',
        "‹": "'",
        "›": "'",
        "–": "--",
        "—": "--",
        "―": "--",
        "‐": "-",
        "…": "...",
        "\x91": "'",
        "\x92": "'",
        "\x93": '"',
        "\x94": '"',
    }
)
_ENTITIES = (("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"))

# Words the treebank writes as two: "cannot" -> "can not", "gonna" -> "gon na", "'tis" -> "'t is".
_TWO_WORDS = re.compile(
    r"(?<![\w'-])(?i:(can)(not)|(gon|wan)(na)|(got)(ta)|(gim|lem)(me)|('t)(is|was)|(y')(all))"
    r"(?![\w'-])"
)
_NOT = re.compile(r"(?i)(?<=[a-z])(?=n't(?!\w))")

_ALWAYS_ABBREVIATED = (
    "mr mrs ms messrs dr prof st ave blvd rd ft mt jr sr esq bros inc ltd co corp assn univ dept "
    "gen gov sen rep lt sgt capt cmdr col maj rev hon pres vs etc al est tel ct sq cf ph.d adj adv "
    "jan feb mar apr jun jul aug sept oct nov dec mon tues wed thurs fri "
    "ala ariz calif fla ga ill tex va wash"
)
_BEFORE_NUMBERS = "no nos fig figs pp art"
# The original splits the period off a single letter before such a word (it even looks for one in
# the next caption of its input file; here each caption is read alone).
_OPENERS = (
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last "
    "Many More Now Once One Other Our She Since So Some Such That The Their Then There These They "
    "This We What When While Yet You"
)

_KINDS = rf"""
    https?://[^\s<>"]+[^\s<>".,;:!?)'] | www\.[^\s<>"]+[^\s<>".,;:!?)']
    | [\w.+-]+@[\w-]+(?:\.[\w-]+)+                             # electronic mail
    | </?[a-z!?][^<>]*>                                        # a tag
    | (?<!\w)[:;=]-?[()dp](?!\w)                               # a face
    | \(\d{{3}}\)(?=\s*\d{{3}}-\d{{4}})                          # the area of a telephone number
    | (?:{"|".join(re.escape(a) for a in _ALWAYS_ABBREVIATED.split())})\.(?!\w)
    | (?:{"|".join(_BEFORE_NUMBERS.split())})\.(?=\s*\d)
    | (?:[a-z]\.){{2,}}(?:-\w+(?:-\w+)*|(?!\w))                # u.s. p.m. u.s.-based
    | [a-z]\.(?!\w|\s(?-i:{"|".join(_OPENERS.split())})\s)   # j.
    | 't(?=\ (?:is|was)(?!\w)) | n't(?!\w) | '(?:s|m|d|ll|re|ve)(?!\w) | y'(?=\s)
    | 'n'(?=\w|\s) | '(?:em|cause|til|n)(?!\w) | (?<!\w)'\d\ds?(?!\w)
    | (?:o|d|l)'[a-z]{{2,}} | ma'am | ol'(?!\w)
    | [+-]?\d+(?:[.,:]\d+)+(?:-[^\W_]+)* | [+-]?\.\d+ | :\d+ | (?<!\w)[+-]\d+
    | [#@][a-z_]\w* | (?:us|c|a|hk)\$
    | [^\W_]+(?:[-/_‑][^\W_]+)+                               # t-shirt and/or 1/2 a_b
    | [a-z]+(?:\.[a-z]+)+ | (?-i:[A-Z]+&[A-Z]+) | [a-z]+[!?][a-z]+
    | [^\W_]+
    | \.\.\. | -{{2,}} | _+ | \*+ | [!?]{{2,}} | << | >> | '' | ``
    | \S
"""
_TOKEN = re.compile(_KINDS, re.VERBOSE | re.IGNORECASE)


@lru_cache(maxsize=65536)
def ptb_tokens(caption: str) -> tuple[str, ...]:
    """Lower-case treebank tokens of one caption, punctuation dropped: "Isn't it?" -> is n't it."""
    text = caption.translate(_PLAIN)
    for entity, sign in _ENTITIES:
        text = text.replace(entity, sign)
    text = _NOT.sub(" ", text)
    text = _TWO_WORDS.sub(lambda found: " ".join(filter(None, found.groups())), text)
    tokens = (_spell(token.lower()) for token in _TOKEN.findall(text))
    return tuple(token for token in tokens if token not in _DROPPED and ord(token[0]) < 0x10000)


def _spell(token: str) -> str:
    """Brackets and a few signs as the treebank writes them, also inside a face like ``:)``."""
    if token in _SPELLED:
        return _SPELLED[token]
    if token[0] in ":;=(" and len(token) > 1:
        return token.replace("(", "-lrb-").replace(")", "-rrb-")
    return token
