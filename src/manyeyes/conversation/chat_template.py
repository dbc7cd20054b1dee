"""A chat template at work: what it writes, where answers stand in it, whether it takes a system.

Answers are found in the text of the whole conversation, by writing it once more with marks in
their place: templates write earlier turns differently from the last one (Qwen3), strip answers
(Llama) and end a conversation in their own way (Phi-3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import takewhile
from typing import Any

from transformers import PreTrainedTokenizerBase

from manyeyes.conversation.time_limit import ending_within
from manyeyes.errors import RecipeError

Message = dict[str, str]
Span = tuple[int, int]

_DAY = datetime(2024, 7, 26)

FIXED: dict[str, Any] = {"enable_thinking": False, "date_string": "26 Jul 2024"}
"""What templates are told in training and inference alike.

``enable_thinking``: Qwen3's form without thinking, whose empty block belongs to the prompt.
``date_string``: Llama 3.1 and 3.2 write a date into every prompt; this is their own default, so
that a model is asked as it was trained and answers do not change with the day (ours).
"""

_TODAY = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f"|replace('%{d}', '{_DAY.strftime(f'%{d}')}')" for d in "aAbBdHIjmMpSuUwWyY")
    + " }}{% endmacro %}{{ '' }}"
)
"""The same day for templates that ask for today's date; what they see cannot be a function."""

_ASKS = "strftime_now"
_SECONDS = 20.0
"""How long a template may write one conversation, which takes less than a thousandth of that."""

_PROBE = ("\ue000system\ue001", "\ue000question\ue001", "\ue000answer\ue001")


@dataclass(frozen=True)
class ChatTemplate:
    """``source`` in Jinja, the tokenizer whose tokens it writes, the prompt style's name, and
    values of the template's variables beside ``FIXED``."""

    source: str
    tokenizer: PreTrainedTokenizerBase
    style: str
    variables: tuple[tuple[str, Any], ...] = ()

    def write(
        self, messages: Sequence[Message], *, prompt: bool = False, continuing: bool = False
    ) -> str:
        """Return the conversation as text; ``prompt``: with what leads in the next answer.

        Raises:
            RecipeError: the template refuses the conversation, or does not come to its end.
        """
        try:
            with ending_within(_SECONDS):
                return str(
                    self.tokenizer.apply_chat_template(
                        list(messages),
                        chat_template=_TODAY + self.source if _ASKS in self.source else self.source,
                        tokenize=False,
                        add_generation_prompt=prompt,
                        continue_final_message=continuing,
                        **{**FIXED, **dict(self.variables)},
                    )
                )
        except Exception as error:  # templates are programs: theirs fail as any program does
            roles = ", ".join(message["role"] for message in messages)
            raise RecipeError(
                f"prompt style {self.style!r}: the chat template refuses the conversation "
                f"({roles}): {error}; change the conversation or choose another prompt_style"
            ) from error

    def answers(
        self, messages: Sequence[Message], text: str, *, prompt: bool = False
    ) -> list[Span]:
        """Return where in ``text``, what ``write`` made of ``messages``, each answer stands.

        A span [first, last) begins where the inference prompt ends and includes the token that
        ends the answer.

        Raises:
            RecipeError: an answer is not in the text as it was given, or the prompt of the last
                one is not how the text begins, so that a model would be asked otherwise than it
                was trained.
        """
        places = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if not places:
            return []
        pieces = self._pieces(messages, places, prompt)
        starts, stops = self._walk(messages, places, pieces, text)
        end = len(self._closing(pieces[1:]))
        lead = self._lead(messages, places[-1], text, starts[-1])
        firsts = [start - len(lead) if text[:start].endswith(lead) else start for start in starts]
        return [(first, stop + end) for first, stop in zip(firsts, stops, strict=True)]

    def _pieces(self, messages: Sequence[Message], places: list[int], prompt: bool) -> list[str]:
        """What the template writes before, between and after the answers."""
        marks = {place: f"\ue000{place}\ue001" for place in places}
        marked = [{**m, "content": marks.get(i, m["content"])} for i, m in enumerate(messages)]
        rest, pieces = self.write(marked, prompt=prompt), []
        for place, mark in marks.items():
            if rest.count(mark) != 1:
                raise self._lost(place)
            piece, _, rest = rest.partition(mark)
            pieces.append(piece)
        return [*pieces, rest]

    def _walk(
        self, messages: Sequence[Message], places: list[int], pieces: list[str], text: str
    ) -> tuple[list[int], list[int]]:
        """Return where the answers begin and end."""
        starts, stops, position = [], [], len(pieces[0])
        for place, piece in zip(places, pieces[1:], strict=True):
            given = messages[place]["content"]
            forms = (given, given.strip(), given.rstrip(), given.lstrip())
            form = next((f for f in forms if text.startswith(f + piece, position)), None)
            if form is None or not text.startswith(pieces[0]):
                raise self._lost(place)
            starts.append(position)
            stops.append(position + len(form))
            position = stops[-1] + len(piece)
        if position != len(text):
            raise self._lost(places[-1])
        return starts, stops

    def _lead(self, messages: Sequence[Message], last: int, text: str, start: int) -> str:
        """Blanks that stand before an answer and are not part of its prompt."""
        prompt = self.write(messages[:last], prompt=True)
        between = text[len(prompt) : start]
        if len(prompt) <= start and text.startswith(prompt) and not between.strip():
            return between
        if last < len(messages) - 1:  # history is written in a form of its own
            return ""
        raise RecipeError(
            f"prompt style {self.style!r}: the chat template asks for an answer with other text "
            f"than it writes before one (turn {last}); a model would be asked otherwise than it "
            "was trained: choose another prompt_style"
        )

    def _closing(self, after: Sequence[str]) -> str:
        """What ends every answer: blanks and one token of the tokenizer's own, if there is one."""
        first, last = min(after), max(after)
        pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
        common = "".join(letter for letter, _ in pairs)
        blanks = common[: len(common) - len(common.lstrip())]
        tokens = self.tokenizer.get_added_vocab()
        ends = [token for token in tokens if common.startswith(token, len(blanks))]
        return blanks + max(ends, key=len) if ends else common.rstrip() or common

    def _lost(self, place: int) -> RecipeError:
        return RecipeError(
            f"prompt style {self.style!r}: the chat template rewrites the answer of turn {place}, "
            "so it cannot be located; change the answer or choose another prompt_style"
        )


def takes_system(template: ChatTemplate) -> bool:
    """Whether the template writes a system message, at one place before and after an answer.

    Gemma 2 refuses it, older Phi-3 and Alpaca leave it out, Mistral v0.3 writes it only while the
    last message is a question, hence never in training.
    """
    return _takes_system(template.source, template.tokenizer, template.style)


@lru_cache(maxsize=16)
def _takes_system(source: str, tokenizer: PreTrainedTokenizerBase, style: str) -> bool:
    template = ChatTemplate(source, tokenizer, style)
    system, question, answer = (
        {"role": role, "content": text}
        for role, text in zip(("system", "user", "assistant"), _PROBE, strict=True)
    )
    try:
        asked = template.write([system, question], prompt=True)
        answered = template.write([system, question, answer])
    except RecipeError:
        return False
    return 0 <= asked.find(_PROBE[0]) == answered.find(_PROBE[0])
