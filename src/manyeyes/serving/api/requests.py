"""Requests of the OpenAI chat API as turns, image sources and decoding; all else is refused.

Images of a message stand before its text, as in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from manyeyes.conversation.rendering import checked_question
from manyeyes.errors import RequestError, UsageError, nearest
from manyeyes.records import BOXES_PLACEHOLDER, IMAGE_PLACEHOLDER, POINTS_PLACEHOLDER, Turn
from manyeyes.serving.api.limits import Limits

TOKENS = 256
"""Longest answer of a request that names none."""
COLDEST = 0.01
"""Lowest temperature above 0; logits divided by less are no numbers in half precision."""
_RESERVED = (IMAGE_PLACEHOLDER, BOXES_PLACEHOLDER, POINTS_PLACEHOLDER)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextPart(_Strict):
    """A piece of text."""

    type: Literal["text"]
    text: str


class ImageUrl(_Strict):
    """Where an image is: ``data:image/png;base64,...``, or a URL of an allowed host."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Strict):
    """An image; ``detail`` changes nothing, as every encoder has its own resolution."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(_Strict):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    name: str | None = None


class ChatRequest(_Strict):
    """The fields that are read; others are errors, unless they ask for nothing."""

    model: str | None = None
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = Field(None, ge=1, strict=True)
    max_completion_tokens: int | None = Field(None, ge=1, strict=True)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, ge=0, lt=2**63, strict=True)
    stop: str | list[str] | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None


_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "web_search_options": (),
}
"""Fields of the API that this server does not act on, with the values that ask for nothing."""


@dataclass(frozen=True)
class Sampling:
    """How an answer is decoded; ``temperature`` 0 = the likeliest token each time."""

    tokens: int = TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        """Answers with equal keys are generated together."""
        return (self.temperature, self.top_p, self.seed) if self.temperature else ()

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of ``generate``."""
        if not self.temperature:
            return {"do_sample": False, "num_beams": 1}
        return {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}


@dataclass(frozen=True)
class Question:
    """A conversation that awaits an answer, and where its images are, in reading order."""

    turns: tuple[Turn, ...]
    images: tuple[str, ...]
    sampling: Sampling
    model: str | None = None
    stream: bool = False
    count_tokens: bool = False


def read_request(body: Mapping[str, Any], limits: Limits) -> Question:
    """Return what a request's JSON object asks for.

    Raises:
        RequestError: a field is missing, wrong, unknown, unsupported or beyond the limits.
    """
    asked = _parse(_without_neutral(body))
    turns = _turns(asked.messages, limits)
    images = tuple(
        part.image_url.url
        for message in asked.messages
        for part in _parts(message)
        if isinstance(part, ImagePart)
    )
    if len(images) > limits.images:
        raise RequestError(
            f"{len(images)} images, but a request may hold {limits.images}", param="messages"
        )
    options = asked.stream_options or {}
    return Question(
        turns=turns,
        images=images,
        sampling=_sampling(asked, limits),
        model=asked.model,
        stream=asked.stream,
        count_tokens=options.get("include_usage") is True,
    )


def _without_neutral(body: Mapping[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, value in body.items():
        if name not in _NEUTRAL:
            kept[name] = value
        elif value is not None and value not in _NEUTRAL[name]:
            raise RequestError(
                f"{name} is not supported by this server",
                param=name,
                code="unsupported_parameter",
            )
    return kept


def _parse(body: Mapping[str, Any]) -> ChatRequest:
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = nearest(str(first["loc"][-1]), ChatRequest.model_fields)
            message = f"unknown field {place[:100]!r}{hint}"
        else:
            message = f"{place[:100]}: {first['msg']}"
        raise RequestError(message, param=place[:100]) from error


def _parts(message: Message) -> Sequence[TextPart | ImagePart]:
    if isinstance(message.content, str):
        return [TextPart(type="text", text=message.content)]
    return message.content


def _turns(messages: Sequence[Message], limits: Limits) -> tuple[Turn, ...]:
    turns = [_turn(message, place) for place, message in enumerate(messages)]
    if turns[-1].role != "user":
        raise RequestError("the last message must be the user's", param="messages")
    roles = [turn.role for turn in turns]
    if "system" in roles[1:]:
        raise RequestError("a system message can only be the first", param="messages")
    letters = sum(len(turn.text) for turn in turns)
    if letters > limits.text:
        raise RequestError(
            f"{letters} characters of text, but a request may hold {limits.text}", param="messages"
        )
    return tuple(turns)


def _turn(message: Message, place: int) -> Turn:
    where = f"messages.{place}"
    parts = _parts(message)
    images = sum(isinstance(part, ImagePart) for part in parts)
    text = "\n".join(part.text for part in parts if isinstance(part, TextPart)).strip()
    role = "system" if message.role == "developer" else message.role
    if images and role != "user":
        raise RequestError(f"an image in a message of the {role}", param=where)
    try:
        text.encode()
        if role == "user":
            text = checked_question(text)
    except UnicodeEncodeError as error:
        raise RequestError("the text holds half a character (a surrogate)", param=where) from error
    except UsageError as error:
        raise RequestError(str(error), param=where) from error
    for word in _RESERVED:
        if word in text:
            raise RequestError(f"{word} cannot be part of a message", param=where)
    return Turn(role, f"{IMAGE_PLACEHOLDER}\n" * images + text)


def _sampling(asked: ChatRequest, limits: Limits) -> Sampling:
    tokens = asked.max_completion_tokens or asked.max_tokens or min(TOKENS, limits.tokens)
    if tokens > limits.tokens:
        raise RequestError(
            f"max_tokens: {tokens} is more than the {limits.tokens} that this server writes",
            param="max_tokens",
        )
    stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    if len(stop) > 4 or not all(0 < len(text) <= 100 for text in stop):
        raise RequestError("stop: up to 4 texts of 1 to 100 characters", param="stop")
    temperature = asked.temperature or 0.0
    if 0 < temperature < COLDEST:
        raise RequestError(f"temperature: 0, or at least {COLDEST}", param="temperature")
    return Sampling(tokens, temperature, asked.top_p or 1.0, asked.seed, tuple(stop))
