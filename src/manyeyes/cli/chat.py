"""``manyeyes chat``: questions about images in the terminal."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import (
    ModelArgument,
    ModelOptions,
    PresetOption,
)
from manyeyes.cli.output import Output
from manyeyes.errors import ManyEyesError, UsageError

if TYPE_CHECKING:
    from manyeyes.serving.chat import Answer, Conversation

EXAMPLES = (
    "manyeyes chat runs/comm/model --image photo.jpg",
    'manyeyes chat runs/comm/model --image photo.jpg --prompt "Where is the cup?" --draw cup.png',
)
HELP = (
    "/image PATH shows an image, /why explains the last answer, /reset starts anew, /quit ends (or "
    "Ctrl-D)"
)
DRAWING = Path("chat-boxes.png")
EXPLANATION = Path("chat-why.html")


@dataclass(frozen=True)
class ShownOptions:
    """What is shown, asked and drawn."""

    image: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Image to talk about. May be repeated."),
    ] = None
    tags: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,...",
            help="Tags of each --image, for models that read them; default: what the tagger finds.",
        ),
    ] = None
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Ask this one question and end.")
    ] = None
    draw: Annotated[
        Path | None,
        typer.Option(metavar="OUT.png", help="Where boxes of answers are drawn onto the image."),
    ] = None


def chat(
    model: ModelArgument,
    *,
    shown: ShownOptions,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 128,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 = the likeliest answer; above 0 = sampled.")
    ] = 0.0,
    preset: PresetOption = "greedy",
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="region_level or image_level, for models that route; default: by the question.",
        ),
    ] = None,
    common: ModelOptions,
) -> None:
    """Talk with a model about images.

    Answers are streamed, except with beams. Boxes in an answer are drawn onto the image shown
    last: with --prompt only if --draw is given, else also into chat-boxes.png. Each image is
    encoded once.
    """
    with common.session() as output:
        from manyeyes.inference.decoding import decoding_preset
        from manyeyes.inference.tagging import own_tagger
        from manyeyes.model.loading import load_model
        from manyeyes.serving.chat import Conversation

        quiet_libraries(debug=common.debug)
        loaded, processor = load_model(model, dtype=common.dtype, device=common.device)
        conversation = Conversation(
            loaded,
            processor,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            tagger=own_tagger(loaded),
            decoding=decoding_preset(preset),
            task=task,
        )
        one_shot = shown.prompt is not None
        talk = _Talk(output, conversation, shown.draw, one_shot=one_shot)
        named = tags_of_images(shown.tags, shown.image)
        for path, names in zip(shown.image or [], named, strict=True):
            conversation.show(path, names)
        if shown.prompt is None:
            talk.run()
        else:
            talk.ask(shown.prompt)
        output.result({"turns": talk.turns, **(talk.turns[0] if one_shot else {})})


def tags_of_images(tags: list[str] | None, images: list[Path] | None) -> list[list[str] | None]:
    """Return the tags given for each image; raises ``UsageError`` for another number of them."""
    shown = len(images or ())
    if not tags:
        return [None] * shown
    if len(tags) != shown:
        raise UsageError(f"--tags is given {len(tags)} times, --image {shown} times")
    return [[name.strip() for name in text.split(",") if name.strip()] for text in tags]


@dataclass
class _Talk:
    """One conversation with the person at the terminal."""

    output: Output
    conversation: Conversation
    draw: Path | None
    one_shot: bool = False
    turns: list[dict[str, Any]] = field(default_factory=list)
    explained: int = 0

    def run(self) -> None:
        """Read lines until the end; errors are told and the conversation goes on."""
        self.draw = self.draw or DRAWING
        self.output.note(HELP)
        while (line := self._read()) is not None:
            try:
                if line == "/quit":
                    return
                self._obey(line)
            except ManyEyesError as error:
                self.output.complain(error)

    def _read(self) -> str | None:
        try:
            return self.output.log.input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return None

    def _obey(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        if command == "/reset":
            self.conversation.reset()
        elif command == "/image":
            picture = self.conversation.show(rest.strip())
            self.output.note(f"{rest.strip()}: {picture.width}x{picture.height} pixels")
        elif command == "/why":
            self._explain()
        elif command.startswith("/"):
            self.output.note(HELP)
        elif line:
            self._interruptible(line)

    def _interruptible(self, line: str) -> None:
        try:
            self.ask(line)
        except KeyboardInterrupt:
            self.output.write("\n")
            self.output.note("answer stopped; the question is forgotten")

    def ask(self, question: str) -> None:
        """Ask, stream the answer, draw its boxes."""
        answer = self.conversation.ask(question, on_text=self.output.write)
        self.output.write("\n")
        drawing = self._drawn(answer)
        turn = {"question": question, "answer": answer.text, "boxes": answer.boxes}
        self.turns.append({**turn, "drawing": drawing})

    def _explain(self) -> None:
        """Say what the last answer depended on, and write the page of `manyeyes explain`."""
        from manyeyes.cli.study.tables import masking_table
        from manyeyes.inference.perceived import PerceivedImages, named_tags
        from manyeyes.inference.predictor import ModelPredictor
        from manyeyes.study.explanation import explain as study
        from manyeyes.study.explanation.page import write_explanation

        asked = self.conversation.asked
        if asked is None:
            raise UsageError("nothing to explain yet: ask about an image")
        model, limit = self.conversation.model, self.conversation.max_new_tokens
        reads_tags = model.config.tags != "none"
        base = ModelPredictor(
            model,
            self.conversation.processor,
            max_new_tokens={"short": limit},
            perceived=PerceivedImages(named_tags(model, list(asked.tags) if reads_tags else None)),
        )
        found = study.explain(base, asked.image, asked.question)
        self.explained += 1
        page = write_explanation(found, _numbered(EXPLANATION, self.explained))
        if len(self.conversation.turns) > 2:
            self.output.note("asked alone, without the conversation before it")
        self.output.show(masking_table(found))
        self.output.note(f"{found.caution}\npage: {page}".strip())

    def _drawn(self, answer: Answer) -> Path | None:
        from manyeyes.images.drawing import save_drawing

        if self.draw is None:
            return None
        if answer.image is None or not answer.boxes:
            if self.one_shot:
                self.output.note("no box in the answer, nothing drawn")
            return None
        number = 1 + sum(turn["drawing"] is not None for turn in self.turns)
        path = save_drawing(answer.image, answer.boxes, _numbered(self.draw, number))
        self.output.note(f"boxes drawn: {path}")
        return path


def _numbered(path: Path, number: int) -> Path:
    """The path itself for the first of several files, then ``NAME-2`` and so on."""
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
