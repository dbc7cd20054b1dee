"""What people say about scenes: captions, questions, expressions, yes/no questions, statements."""

from __future__ import annotations

from manyeyes.world.language.captions import caption, captions
from manyeyes.world.language.object_questions import Question
from manyeyes.world.language.programs import ProgramError, Step, answer_text, execute
from manyeyes.world.language.questions import QUESTION_KINDS, ask, questions
from manyeyes.world.language.references import Reference, refer, references

__all__ = [
    "QUESTION_KINDS",
    "ProgramError",
    "Question",
    "Reference",
    "Step",
    "answer_text",
    "ask",
    "caption",
    "captions",
    "execute",
    "questions",
    "refer",
    "references",
]
