"""Penn Treebank tokens of captions without Java, for CIDEr, BLEU and ROUGE-L.

Reproduces what pycocoevalcap gets from Stanford's PTBTokenizer 3.4.1 (``-preserveLines
-lowerCase``) with its list of dropped punctuation. Like the original it tries all rules at each
place and takes the longest match; the rules were found by running the original on made-up text.
Because the text is lower-cased, brackets come out as ``-lrb-`` and are kept, as in the original.

Two things differ on purpose. The original looks into the next line of its input to judge the
period of a final single letter ("vitamin C."): here it ends the sentence, as it does there where
the next caption begins with "A". And a token with a blank in it, as the original makes of "1 1/2",
is two tokens, as CIDEr and BLEU read it there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

_DROPPED = frozenset("' ’ '' ` `` . ? ! , : ; … ... .... ..... - -- --- ---- \"".split())

_SPELLED: Mapping[str, str] = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    "£": "#",
    "€": "$",
    "¤": "$",
    "¢": "cents",
}

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘‛‹›\x91\x92", "'"),
        **dict.fromkeys("“”«»\x93\x94", '"'),
        **dict.fromkeys("‒–—―", " -- "),
        "‐": "-",
        "\xad": "",
        "½": " 1/2 ",
        "¼": " 1/4 ",
        "¾": " 3/4 ",
        "⅓": " 1/3 ",
        "⅔": " 2/3 ",
    }
)
_ENTITIES = {"amp": "&", "lt": " < ", "gt": " > ", "quot": '"', "apos": "'", "nbsp": " "}
_ENTITY = re.compile(rf"&({'|'.join(_ENTITIES)});", re.IGNORECASE)
# Signs that the original does not know: control characters, most currencies, emoji.
_UNKNOWN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20a0-\u20a3"
    "\u20a5-\u20ab\u20ad-\u20cf\ufe00-\ufe0f\ufeff\U00010000-\U0010ffff]"
)

# Words the treebank writes as two: "isn't" -> "is n't", "cannot" -> "can not".
_NOT = re.compile(r"(?i)(?<=[a-z])n['’]t")
_TWO_WORDS = re.compile(
    r"(?<![\w'’-])(?i:(can)(not)|(gon|wan)(na)|(got)(ta)|(gim|lem)(me))(?!\w|-\w|['’]\w)"
)

_ABBREVIATIONS = (
    "adj adm adv al ala alex apr ariz assn assoc asst atty aug ave bhd bldg blvd brig bros calif "
    "capt cf cie cmdr co col colo conn corp cos cpl ct dak dec dept depts det dr drs elec ens esq "
    "est etc ext feb fla fri ft ga gen gov govs hon inc ind insp intl invt jan jos jr jul jun kan "
    "kans ky lt ltd maj mar md messrs mfg mich minn mlle mme mo mon mont mr mrs ms msgr mt mtg "
    "natl neb nev nov oct okla penn pfc ph plc ppte ppty pres prof pte ptes pty ptys pvt rd rep "
    "reps rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt sys tel tenn thu thurs tue "
    "tues univ va vs vt wed wis wisc wm wyo"
)
_CAPITALISED = "az ark del ill la mass miss ore pa tex wash"
_BEFORE_NUMBERS = "art ca fig figs no nos op p pp prop"
_OPENERS = (
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last "
    "Many More Now Once One Other Our She Since So Some Such That The Their Then There These They "
    "This We What When While Yet You"
)
_FILES = (
    "bat bmp c cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png "
    "ppt ps py sql tar txt wav x xml zip"
)
_SHORTENED = (
    "c'mon dunkin' e'er ev'ry li'l ma['’]am nat'l ne['’]er nor'easter ol['’] s'mores somethin'"
)


def _any(words: str) -> str:
    return f"(?:{'|'.join(words.split())})"


_INNER = r"[^\W_¹²³⁰-₟⅐-⅟①-⓿]|[\u0300-\u036f]"
_C = f"(?:{_INNER})"  # a letter or digit
_L = rf"(?:(?!\d)(?:{_INNER}))"  # a letter
_WORD = rf"{_L}{_C}*(?:[.!?]{_L}{_C}*)*"
_CLITIC = rf"['’](?i:[sdm]|ll|re|ve)(?!{_L})"
_CAPITALS = _any(f"{_CAPITALISED.title()} {_CAPITALISED.upper()}")
_ENDS_URL = r"[^\s<>\".,;:!?)'’]"

_PATTERNS = (
    # addresses, tags, faces, telephone numbers
    rf"((?i:https?)://[^\s<>\"]+{_ENDS_URL}|(?i:www)\.[^\s<>\"'’]+{_ENDS_URL})",
    rf"((?:[\w-]+\.)+(?i:com|net|org|edu)(?:/[^\s<>\"]+{_ENDS_URL})?)",
    r"([\w.+-]+@[\w-]+(?:\.[\w'-]+)*)",
    r"(</?[A-Za-z][A-Za-z0-9.:-]*(?:\ +[A-Za-z][A-Za-z0-9.:-]*(?:=(?:'[^']*'|\"[^\"]*\"|\w+))?)*"
    r"\ */?>|<[!?][^<>]*>)",
    r"([<>]?[:;=][-o']?[()\[\]DPdpO|\\])(?![A-Za-z])",
    r"(\^_\^)",
    r"(\(\d{2,3}\)[ -]?\d{3,4}[ -]?\d{3,5})",
    # words with a period that does not end the sentence
    rf"((?i:{_any(_ABBREVIATIONS)})\.|{_CAPITALS}\.)",
    rf"((?i:{_any(_BEFORE_NUMBERS)})\.)\s?\d",
    rf"((?:{_WORD}|\d+)\.)[,;:]",
    r"([A-Za-z](?:\.[A-Za-z])+\.|(?i:ph\.d\.))",
    rf"([A-Za-z])\.(?:\s(?=[A-Z])(?i:{_any(_OPENERS)})\s|\s*$)",
    r"([A-Za-z]\.)",
    rf"([A-Za-z0-9]+(?:\.[A-Za-z0-9]+)*\.(?i:{_any(_FILES)}))",
    # words, alone and joined by hyphens, slashes and signs
    rf"({_WORD}){_CLITIC}",
    rf"({_WORD})",
    rf"((?:[dDoOlL]['’]{_C})?{_C}+(?:[-‑_]{_C}+)*)",
    r"([A-Za-z0-9][A-Za-z0-9.,]*(?:-[A-Za-z0-9]+)+)",
    r"([A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2})",
    r"([A-Z]+(?:[+&][A-Z]+)+|[CcFf]#|[Cc]\+\+)",
    # apostrophes
    rf"({_CLITIC}|(?i:n't))",
    r"('[tT])(?i:is|was)",
    r"([yY]['’])[A-Za-z]",
    r"([A-HJ-XZn]['’][A-Za-z]{2,}|[DdJjLl]['’])",
    rf"({_L}+[aeiouyAEIOUY]['’][aeiouA-Z]{_L}*)",
    r"(['’][2-9]0[sS]|['’]\d\d(?=\s|$)|['’][nN]['’]|['’](?i:n|em|cause|till?)(?!\w))",
    rf"((?i:{_any(_SHORTENED)}))",
    # numbers, prices, tags, repeated signs, and any other sign
    r"(\d{1,4}-\d{1,4}/\d{1,4}|[-+]?(?:\d*(?:[.,:]\d+)+|\d+))",
    r"([A-Z]*\$|[\#@][A-Za-z_]+|&\#\d+;)",
    r"(\.{3,5}|-{2,}|_+|\*+|[!?]{2,}|@{2,}|\#{2,}|<<|>>|''|``|\S)",
)
_RULES = tuple(re.compile(pattern) for pattern in _PATTERNS)
"""Group 1 is the token; what a pattern matches behind it counts for the length of the match."""

# Words for which no other rule can match more: those before a blank, and the last one before its
# period, unless it is an abbreviation, to which the period belongs.
_SIMPLE = re.compile(r"[A-Za-z0-9]+(?=\s|$|\")")
_LAST = re.compile(r"([A-Za-z]{2,})\.\s*$")
_DOTTED = frozenset(f"{_ABBREVIATIONS} {_CAPITALISED}".split())
_BLANK = re.compile(r"\s*")
_IS_CLITIC = re.compile(rf"{_CLITIC}$")


@lru_cache(maxsize=65536)
def ptb_tokens(caption: str) -> tuple[str, ...]:
    """Lower-case treebank tokens of one caption, punctuation dropped: "Isn't it?" -> is n't it."""
    text = _ENTITY.sub(lambda found: _ENTITIES[found[1].lower()], caption)
    text = _UNKNOWN.sub(" ", text.translate(_PLAIN))
    text = _NOT.sub(lambda found: " " + found[0].replace("’", "'"), text)
    text = _TWO_WORDS.sub(lambda found: " ".join(filter(None, found.groups())), text)
    words = " ".join(_spell(token) for token in _scan(text)).lower().split()
    return tuple(word for word in words if word not in _DROPPED)


def _scan(text: str) -> Iterator[str]:
    """Cut a text into tokens, at each place by the rule whose match is the longest."""
    at = _skip(text, 0)
    while at < len(text):
        word = _SIMPLE.match(text, at)
        last = None if word else _LAST.match(text, at)
        if word is not None:
            yield word[0]
            at = _skip(text, word.end())
        elif last is not None and last[1].lower() not in _DOTTED:
            yield from (last[1], ".")
            return
        else:
            matches = (rule.match(text, at) for rule in _RULES)
            best = max(filter(None, matches), key=lambda found: found.end())
            yield best[1]
            at = _skip(text, best.end(1))


def _skip(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


def _spell(token: str) -> str:
    """Brackets and a few signs as the treebank writes them, also inside a face like ``:)``."""
    if token in _SPELLED:
        return _SPELLED[token]
    if token[0] in "><:;=(" and len(token) > 1:
        return token.replace("(", "-lrb-").replace(")", "-rrb-")
    if "’" in token and _IS_CLITIC.match(token):
        return token.replace("’", "'")
    return token
