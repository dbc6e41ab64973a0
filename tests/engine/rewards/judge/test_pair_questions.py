"""What judges are asked about two pictures, and preferences read out of what they answer."""

import pytest

from mixgrpo_engine.rewards.judge.pair_questions import PAIR_PRESETS, PairQuestion
from mixgrpo_engine.rewards.remote.client import start_of

# The layouts that the published evaluation code shows.
THINK = """<think>
1. Semantic consistency:
    Image 1 (9/10) - Image 2 is better at this;
    Image 2 (7/10) - ...
Total score:
Image 1: 9+8+8=25
Image 2: 7+8+5=20
</think>
<answer>Image 1 is better</answer>"""
SHARES = """Alignment Score:
 Image 1: 0.435699999332428
 Image 2: 0.564300000667572

Coherence Score:
 Image 1: 0.4180000126361847
 Image 2: 0.5820000171661377

Style Score:
 Image 1: 0.40790000557899475
 Image 2: 0.5921000242233276
"""
FLEX = '{"categories": [{"cat_winner": "Image 1"}], "reason": "...", "winner": "Image 2"}'


@pytest.mark.parametrize(
    "name, answer, preference",
    [
        ("better", "Image 1 is better.", 1),
        ("better", "The second is sharper, so **Image 2 is better**.", 0),
        ("better", "Both images are equally good.", 0.5),
        ("better", "At first Image 1 is better, but no: Image 2 is clearly better.", 0),
        ("think", THINK, 1),
        ("think", FLEX, 0),
        ("edit", "image 2  is\nbetter", 0),
        ("semantic", SHARES, 0.4357),
        ("coherence", SHARES, 0.418),
        ("style", SHARES, 0.4079),
        ("overall", SHARES, (0.4357 + 0.418 + 0.4079) / 3),
        ("semantic", "Alignment Score: Image 1: 3 Image 2: 1", 0.75),
    ],
)
def test_published_answers(name, answer, preference):
    assert PAIR_PRESETS[name].read(answer) == pytest.approx(preference, abs=1e-6)


@pytest.mark.parametrize(
    "name, answer",
    [
        ("better", ""),
        ("better", "Image 3 is better."),
        ("better", "Image 1 is not better."),
        ("think", "<think>Image 1 is better</think>"),
        ("think", "<think>Semantic consistency: Image 1 is better here. Aesthetics: Image 2 (8/10)"),
        ("semantic", "Alignment Score: Image 1: 0.4"),
        ("semantic", "Alignment Score: Image 1: -1 Image 2: 2"),
        ("semantic", "Alignment Score: Image 1: 0 Image 2: 0"),
        ("overall", SHARES.replace("Style", "Stile")),
    ],
)
def test_an_answer_without_a_preference_is_refused_with_its_beginning(name, answer):
    with pytest.raises(ValueError, match="judge's answer") as error:
        PAIR_PRESETS[name].read(answer)
    assert start_of(answer) in str(error.value)


@pytest.mark.parametrize("name", PAIR_PRESETS)
def test_the_questions_ask_for_what_is_read(name):
    question = PAIR_PRESETS[name]
    asked = question.ask("a {prompt} cat")
    assert asked.count("a {prompt} cat") == 1 and question.source == (name == "edit")
    if "Image 1: X" in asked:
        assert question.read(asked.replace("Image 1: X", "Image 1: 0.3").replace("Image 2: Y", "Image 2: 0.7")) == 0.3
    else:
        assert "Image 1 is better" in asked and "Image 2 is better" in asked


def test_an_empty_question_is_one_sentence():
    with pytest.raises(ValueError, match="question is empty"):
        PairQuestion(" ")
