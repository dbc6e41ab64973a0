"""What judges are asked, and numbers read out of what they answer."""

import pytest

from mixgrpo_engine.rewards.judge.questions import MAX_ANSWER, PRESETS, Question
from mixgrpo_engine.rewards.remote.client import start_of

# The layouts that UnifiedReward's model card and evaluation code show.
AXES = """---

Word-wise Scores: [["A", 0.12], ["sad", 3.4], ["girl", 0.05], ["[No_mistakes]", 0.31]]

Alignment Score (1-5): 3.62
Coherence Score (1-5): 2.9
Style Score (1-5): 4
"""
FINAL = """ocean (location): 0
clouds (object): 1
day time (attribute): 1
Final Score: 2.33"""

EDIT = """Instruction Score (0-10): 8
Preservation Score (0-10): 2
Quality Score (0-10): 4"""


@pytest.mark.parametrize(
    "name, answer, number",
    [
        ("semantic", AXES, 3.62),
        ("coherence", AXES, 2.9),
        ("style", AXES, 4),
        ("overall", FINAL, 2.33),
        ("semantic", "**Alignment Score (1-5):** 4.5", 4.5),
        ("semantic", "Alignment score: 2\ncoherence score: 5", 2),
        ("style", "- Alignment: 1\n- Coherence: 2\n- Style: 3", 3),
        ("overall", "<think>Final Score: 1? No.</think>\nFinal Score: 4", 4),
        ("overall", "At first I said Final Score: 1.\nFinal  score :\n 4.0/5", 4),
        ("overall", "**Final Score: 3.5**.", 3.5),
        ("overall", "Overall Score: 3", 3),
        # UnifiedReward 2's.
        (
            "semantic",
            "Alignment Score (1-5): 2.694700002670288\nCoherence Score (1-5): 2.371500015258789",
            2.694700002670288,
        ),
        ("edit instruction", EDIT, 8),
        ("edit preservation", EDIT, 2),
        ("edit quality", EDIT, 4),
        ("edit", EDIT, 4),  # the geometric mean
        ("edit", "Instruction Score (0-10): 0\nPreservation Score (0-10): 10\nQuality Score (0-10): 10", 0),
    ],
)
def test_published_answers(name, answer, number):
    assert PRESETS[name].read(answer) == pytest.approx(number)


@pytest.mark.parametrize(
    "name, answer",
    [
        ("semantic", FINAL),
        ("overall", AXES),
        ("semantic", "Alignment Score (1-5): X"),
        ("semantic", "Alignment Score (1-5): four"),
        ("overall", "Final Score: 45"),
        ("overall", "Final Score: -1"),
        ("overall", "Final Score: 1.2.3"),
        ("overall", "<think>Final Score: 4</think>"),
        ("overall", "<think>First idea: Final Score: 1? Let me look closer at the"),
        ("overall", "<think>Short.</think><think>Final Score: 1?"),
        ("overall", "Final Score: 5" + "0" * 400),
        ("overall", ""),
        ("edit", "Instruction Score (0-10): 8\nQuality Score (0-10): 4"),
        ("edit", "Instruction Score (0-10): 8\nPreservation Score (0-10): 12\nQuality Score (0-10): 4"),
    ],
)
def test_an_answer_without_a_sensible_number_is_refused_with_its_beginning(name, answer):
    with pytest.raises(ValueError, match="judge's (answer|score)") as error:
        PRESETS[name].read(answer)
    assert start_of(answer) in str(error.value)


@pytest.mark.parametrize("name", PRESETS)
def test_the_questions_ask_for_what_is_read(name):
    question = PRESETS[name]
    asked = question.ask("a {score} cat")
    assert asked.count("[a {score} cat]") == 1 and "{prompt}" not in asked
    # Whoever answers in the layout that the question asks for is understood.
    shown = [line for line in asked.splitlines() if line.endswith((" X", " Y", " Z"))]
    answer = "\n".join(line[:-1] + str(number) for number, line in enumerate(shown, 1))
    axes = {"semantic": 1, "coherence": 2, "style": 3, "overall": 1}
    edits = {"edit instruction": 1, "edit preservation": 2, "edit quality": 3, "edit": 6 ** (1 / 3)}
    wanted = {**axes, **edits}[name]
    assert question.source == (name in edits)
    assert question.read(answer) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "template, answer, number",
    [
        ("Score: {score}", "Score: 7", 7),
        ("Score: {score}", "Score: 7 and then Score:8.25", 8.25),
        ("score:{score}", "SCORE :\n\t-3", -3),
        ("<score>{score}</score>", "It's <score> .5 </score>.", 0.5),
        ("{score}/10", "I give it 14/10, no: 9 / 10", 9),
        ("{score}", " 42. ", 42),
        ("{score}", "**6**", 6),
        ('{"score": {score}}', '```{"score": 3}```', 3),
        ("a.c {score}", "abc 1 a.c 2", 2),
        ("(x+)+$ {score}", "(x+)+$ 5", 5),
    ],
)
def test_templates(template, answer, number):
    assert Question("?", (template,)).read(answer) == number


@pytest.mark.parametrize(
    "template, answer",
    [
        ("{score}", "The 3 cats are a 4"),
        ("{score}", "4/5"),
        ("Score: {score}", "Points: 3"),
        ("Score: {score}!", "Score: 3"),
        ("{score}/10", "1234567890123/10"),
        ("{score}/10", "3.4.5/10"),
    ],
)
def test_what_is_no_score(template, answer):
    with pytest.raises(ValueError, match="holds no"):
        Question("?", (template,)).read(answer)


@pytest.mark.parametrize(
    "template, answer",
    [
        ("{score} " + "a " * 90, "1 " + "a " * 10_000),
        ("a a a a a a a {score}", "a" + " " * 19_990),
        ("{score}x", "1" * 20_000),
        ("{score}x", "1." * 10_000),
        ("Score: {score}", "Score:" + " " * 10_000_000 + "x"),
    ],
)
def test_no_answer_can_hold_the_server_up(template, answer):
    # With a regular expression of the graph's choice this could take years; the suite's time limit would tell.
    with pytest.raises(ValueError):
        Question("?", (template,)).read(answer)


def test_the_end_of_a_long_answer_counts():
    assert Question("?", ("Score: {score}",)).read("Score: 1" + "." * 10 * MAX_ANSWER + "Score: 2") == 2


@pytest.mark.parametrize("template", ["", "Score:", "{score} {score}", "{score}" + "x" * 200])
def test_a_bad_template_is_one_sentence(template):
    with pytest.raises(ValueError, match="must hold {score} once"):
        Question("?", (template,))


def test_an_empty_question_is_one_sentence():
    with pytest.raises(ValueError, match="question is empty"):
        Question(" \n", ("{score}",))


def test_start_of():
    assert start_of("a\nb\x00\x1b[31mc") == "a b [31mc"
    assert len(start_of("x" * 10**6)) < 130
