"""The judge of coloured shapes: right pictures, wrong ones, and ones made to cheat."""

import random

import numpy as np
import pytest
import torch

from mixgrpo_engine import shapes
from mixgrpo_engine.rewards.pictures import NOT_FINITE
from mixgrpo_engine.rewards.shapes import STRANGE_PROMPT, ShapesReward
from mixgrpo_engine.shapes import Object, Scene

REWARD = ShapesReward()
CIRCLE = Object("red", "circle", 0.5, 0.5, 0.4)
PROMPT = "a red circle on a gray background"


def tensor(picture) -> torch.Tensor:
    return torch.from_numpy(np.asarray(picture).copy()).float() / 255


def render(*objects: Object, background="gray", size=64) -> torch.Tensor:
    return tensor(shapes.draw(Scene(objects, background), size))


def judge(image: torch.Tensor, prompt: str = PROMPT) -> tuple[float, float]:
    return REWARD.score(image[None], [prompt]).item(), REWARD.strict(image[None], [prompt]).item()


def test_true_pictures_of_the_whole_grammar_are_right():
    rng = random.Random(1)
    prompts = shapes.sample_prompts(200, seed=1)
    images = torch.stack([tensor(shapes.draw(shapes.layout(shapes.parse(prompt), rng))) for prompt in prompts])
    scores, strict = REWARD.score(images, prompts), REWARD.strict(images, prompts)
    assert scores.dtype == strict.dtype == torch.float32 and scores.shape == (200,)
    assert strict.min() == 1 and scores.min() > 0.97


@pytest.mark.parametrize("size", [48, 128, 200])
def test_the_size_of_the_picture_does_not_matter(size):
    score, strict = judge(render(CIRCLE, size=size))
    assert strict == 1 and score > 0.95


WRONG = {
    "colour": render(Object("blue", "circle", 0.5, 0.5, 0.4)),
    "similar colour": render(Object("orange", "circle", 0.5, 0.5, 0.4)),
    "shape": render(Object("red", "square", 0.5, 0.5, 0.4)),
    "background": render(CIRCLE, background="white"),
    "count": render(Object("red", "circle", 0.25, 0.5, 0.3), Object("red", "circle", 0.75, 0.5, 0.3)),
    "extra object": render(Object("red", "circle", 0.3, 0.4, 0.35), Object("green", "square", 0.75, 0.75, 0.25)),
    "nothing": render(),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG)
def test_one_wrong_attribute_costs_score(mistake):
    score, strict = judge(WRONG[mistake])
    assert strict == 0 and score < 0.8


def test_nearly_right_is_better_than_wrong():
    right, one, two = judge(render(CIRCLE))[0], judge(WRONG["colour"])[0], judge(WRONG["nothing"])[0]
    assert right > 0.95 > one > two == 0


RED, BLUE = Object("red", "circle", 0.26, 0.5, 0.32), Object("blue", "square", 0.74, 0.5, 0.32)


@pytest.mark.parametrize(
    "prompt, right",
    [
        ("a red circle to the left of a blue square", True),
        ("a blue square to the right of a red circle", True),
        ("a red circle to the right of a blue square", False),
        ("a red circle above a blue square", False),
        ("a red square to the left of a blue circle", False),  # the right words on the wrong things
        ("a red circle on the left", False),
    ],
)
def test_relations(prompt, right):
    score, strict = judge(render(RED, BLUE), prompt)
    assert strict == float(right)
    assert (score > 0.95) == right


@pytest.mark.parametrize("x, y, position", [(0.24, 0.5, "left"), (0.76, 0.5, "right"), (0.5, 0.24, "top")])
def test_positions(x, y, position):
    image = render(Object("green", "triangle", x, y, 0.34))
    for asked, words in shapes.POSITIONS.items():
        assert judge(image, f"a green triangle {words}")[1] == float(asked == position)


def test_counts():
    three = render(*(Object("red", "circle", x, y, 0.27) for x, y in [(0.25, 0.7), (0.75, 0.7), (0.5, 0.28)]))
    assert judge(three, "three red circles") == (pytest.approx(1, abs=0.03), 1)
    assert judge(three, "two red circles")[1] == judge(three, "a red circle")[1] == 0
    assert judge(three, "a red circle")[0] < judge(three, "two red circles")[0] < 0.8


def noisy(image, strength):
    return (image + strength * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def paint(image, rows, columns, color):
    image = image.clone()
    image[rows, columns] = torch.tensor(color, dtype=torch.float32) / 255
    return image


GRAY = render()
HACKS = {
    "all red": paint(GRAY, slice(None), slice(None), shapes.COLORS["red"]),
    "grown": render(Object("red", "circle", 0.5, 0.5, 0.9)),
    "dot": render(Object("red", "circle", 0.5, 0.5, 0.1)),
    "merged blob": render(*(Object("red", "circle", x, 0.5, 0.36) for x in (0.36, 0.6))),
    "half a circle": paint(render(CIRCLE), slice(None), slice(32), shapes.BACKGROUNDS["gray"]),
    "ring": paint(render(CIRCLE), slice(24, 40), slice(24, 40), shapes.BACKGROUNDS["gray"]),
    "two-coloured": paint(render(CIRCLE), slice(32, 45), slice(22, 42), shapes.COLORS["blue"]),
    "noise": noisy(render(CIRCLE), 0.15),
    "only noise": noisy(GRAY, 0.3),
    "smear": paint(render(CIRCLE), slice(4, 10), slice(4, 50), (150, 120, 110)),
    "specks": paint(render(CIRCLE), slice(2, 14, 4), slice(2, 64, 4), (90, 160, 200)),
    "tinted background": paint(GRAY, slice(None), slice(None), (190, 90, 90)),
    "gradient": (render(CIRCLE) * torch.linspace(0.5, 1.5, 64)[:, None]).clamp(0, 1),
    "pale": 0.5 * render(CIRCLE) + 0.5 * GRAY,
    "every colour": render(*(Object(c, "circle", 0.17 + 0.33 * (i % 3), 0.3 + 0.4 * (i // 3), 0.27)
                             for i, c in enumerate(shapes.COLORS))),
    "black": torch.zeros(64, 64, 3),
}  # fmt: skip


@pytest.mark.parametrize("hack", HACKS)
def test_cheating_does_not_pay(hack):
    score, strict = judge(HACKS[hack])
    assert strict == 0
    assert score < 0.75, "a cheat is worth clearly less than the honest picture"


def test_a_little_noise_costs_a_little():
    scores = [judge(noisy(render(CIRCLE), strength))[0] for strength in (0, 0.02, 0.05, 0.1, 0.2)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.95 and scores[-1] < 0.4


def test_a_prompt_outside_the_grammar_is_not_scored():
    images = torch.stack([render(CIRCLE)] * 2)
    for verdicts in (REWARD.score(images, [PROMPT, "a cat"]), REWARD.strict(images, [PROMPT, "a cat"])):
        assert verdicts[0] == 1 or verdicts[0] > 0.95
        assert torch.isnan(verdicts[1])
    assert REWARD.failures == [f"1 of 2 images: {STRANGE_PROMPT}."]


def test_an_image_that_is_not_finite_has_no_score():
    images = torch.stack([render(CIRCLE)] * 3)
    images[1, 0, 0, 0], images[2, 5, 5, 2] = torch.nan, torch.inf
    for verdicts in (REWARD.strict(images, [PROMPT] * 3), REWARD.score(images, [PROMPT] * 3)):
        assert verdicts.isnan().tolist() == [False, True, True]
    assert REWARD.failures == [f"2 of 3 images: {NOT_FINITE}."]
    REWARD.score(images[:1], [PROMPT])
    assert REWARD.failures == []


def test_no_images_have_no_scores():
    assert REWARD.score(torch.zeros(0, 48, 48, 3), []).shape == (0,)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="prompts"):
        REWARD.score(render(CIRCLE)[None], [])
    with pytest.raises(ValueError, match="batch, height"):
        REWARD.score(torch.zeros(1, 3, 64, 64), [PROMPT])
