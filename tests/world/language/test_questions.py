"""Questions are unambiguous, balanced, and answered by their own programs."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from manyeyes.errors import UsageError
from manyeyes.world.language.dialogue import KIND_WEIGHTS, exchange_of, exchanges
from manyeyes.world.language.phrases import filters_of, noun_phrase
from manyeyes.world.language.programs import ProgramError, Step, answer_text, execute
from manyeyes.world.language.questions import QUESTION_KINDS, ask, questions
from manyeyes.world.language.references import references
from manyeyes.world.language.statements import statement
from manyeyes.world.language.words import ATTRIBUTES, margin, offset, with_article
from manyeyes.world.sample import sample_scene

FORM_WORDS = ("more", "fewer", "as", "any", "object", "objects", "mark")
SCENES = [sample_scene("train", index, 5) for index in range(400)]
ASKED = [(s, q) for s in SCENES for q in questions(s, Random(s.index), 6)]
GUESS_LIMIT = {
    "color": 0.25, "compare": 0.6, "count": 0.35, "exist": 0.6, "larger": 0.25, "mark": 0.4,
    "related": 0.35, "relation": 0.6, "shape": 0.4, "size": 0.6, "texture": 0.5,
}  # fmt: skip


def test_every_question_executes_to_its_answer() -> None:
    assert {question.kind for _, question in ASKED} == set(QUESTION_KINDS)
    for scene, question in ASKED:
        assert answer_text(execute(question.program, scene)) == question.answer


@pytest.mark.parametrize("kind", QUESTION_KINDS)
def test_no_answer_is_a_good_guess(kind: str) -> None:
    """The most frequent answer of each kind has a bounded share."""
    found = (ask(kind, scene, Random(scene.index)) for scene in SCENES)
    answers = Counter(question.answer for question in found if question is not None)
    assert answers.total() > 50
    assert answers.most_common(1)[0][1] / answers.total() < GUESS_LIMIT[kind]


def test_every_part_of_a_related_question_is_needed() -> None:
    """Without the second object the first is not singled out."""
    related = [(s, q) for s in SCENES if (q := ask("related", s, Random(s.index)))]
    assert len(related) > 50
    for scene, question in related:
        filters = [step for step in question.program[:-2] if step.function.startswith("filter_")]
        place = next(i for i, step in enumerate(question.program) if step.function == "relate")
        after = [step for step in filters if question.program.index(step) > place]
        bare = [Step("scene")]
        bare += [Step(f.function, (i,), f.value) for i, f in enumerate(after)]
        with pytest.raises(ProgramError, match="exactly one"):
            execute((*bare, Step("unique", (len(bare) - 1,))), scene)


def test_questions_of_one_scene_differ_and_repeat_exactly() -> None:
    for scene in SCENES[:100]:
        first = questions(scene, Random(1), 8)
        assert len({question.text for question in first}) == len(first)
        assert first == questions(scene, Random(1), 8)


def test_relations_keep_the_margin() -> None:
    for scene in SCENES[:200]:
        claim = statement(scene, Random(scene.index))
        if claim is None:
            continue
        subject, anchor = _named(claim.program, scene)
        distance = offset(claim.relation, scene.objects[subject], scene.objects[anchor])
        assert abs(distance) >= margin(scene)
        assert claim.true == (distance > 0)
        assert claim.text.startswith("The ") and claim.text.endswith(".")


def test_statements_are_true_half_of_the_time() -> None:
    truths = [c.true for s in SCENES if (c := statement(s, Random(s.index)))]
    assert len(truths) > 250
    assert 0.4 < sum(truths) / len(truths) < 0.6


def test_expressions_name_exactly_one_object() -> None:
    found = [(scene, r) for scene in SCENES for r in references(scene, Random(scene.index))]
    for scene, reference in found:
        assert execute(reference.program, scene) == (reference.target,)
        assert reference.text.startswith("the ")
    assert len(found) > 0.9 * sum(len(scene.objects) for scene in SCENES)


def test_expressions_are_minimal() -> None:
    """Leaving out an adjective or mark of a look-only expression selects more than one object."""
    checked = 0
    for scene in SCENES[:200]:
        for reference in references(scene, Random(scene.index)):
            steps = [s for s in reference.program if s.function.startswith("filter_")]
            if any(s.function in ("relate", "extreme") for s in reference.program):
                continue
            for gone in (s for s in steps if s.function != "filter_shape"):
                kept = [s for s in steps if s is not gone]
                program = [Step("scene")]
                program += [Step(s.function, (i,), s.value) for i, s in enumerate(kept)]
                selected = execute(program, scene)
                assert isinstance(selected, tuple) and len(selected) > 1, reference.text
                checked += 1
    assert checked > 100


def test_exchanges_cover_every_kind() -> None:
    found = [e for s in SCENES[:150] for e in exchanges(s, Random(s.index), 10)]
    assert {exchange.kind for exchange in found} == {*KIND_WEIGHTS, "caption"}
    for exchange in found:
        assert (exchange.request + exchange.reply).count("<boxes>") == len(exchange.boxes)
    rec = [e.request for e in found if e.kind == "rec"]
    wording = sum(r.startswith("Where is the ") and r.endswith("? Give its box.") for r in rec)
    assert wording > 0.5 * len(rec)


def test_describing_names_every_attribute_of_the_one_object_meant() -> None:
    found = [
        (scene, exchange)
        for scene in SCENES[:200]
        if (exchange := exchange_of("describe", scene, Random(scene.index)))
    ]
    assert len(found) > 100
    for scene, exchange in found:
        said = exchange.request.removeprefix("Describe the ").removesuffix(".")
        fitting = [
            item
            for item in scene.objects
            if exchange.reply == with_article(noun_phrase(filters_of(item, ATTRIBUTES)))
        ]
        assert fitting, exchange
        words = set(exchange.reply.split()) | {"object"}
        assert set(said.split()) <= words, exchange


@pytest.mark.parametrize("kind", ["compare", "exist"])
def test_wording_gives_no_truth_away(kind: str) -> None:
    """For questions of equal form, yes and no are about equally frequent."""
    forms: dict[str, Counter[str]] = {}
    for index in range(3000):
        question = ask(kind, sample_scene("train", index, 5), Random(index))
        if question is not None:
            words = question.text.split()
            form = f"{len(words)} {' '.join(w for w in words if w in FORM_WORDS)}"
            forms.setdefault(form, Counter())[question.answer] += 1
    frequent = {form: n for form, n in forms.items() if n.total() >= 150}
    assert len(frequent) >= 3
    for form, answers in frequent.items():
        assert 0.38 < answers["yes"] / answers.total() < 0.62, form


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'count'"):
        ask("counts", SCENES[0], Random(0))


def test_one_object_alone_can_be_asked_about() -> None:
    alone = sample_scene("train", 0, 0, count=1)
    assert questions(alone, Random(0), 4)
    assert exchange_of("related", alone, Random(0)) is None


def _named(program: tuple[Step, ...], scene: object) -> tuple[int, int]:
    ends = program[-1].inputs
    found = [execute(program[: end + 1], scene) for end in ends]  # type: ignore[arg-type]
    first, second = (result[0] for result in found if isinstance(result, tuple))
    return first, second
