"""The grammar of captions, and the pictures."""

import random

import numpy as np
import pytest

from mixgrpo_engine import shapes
from mixgrpo_engine.shapes import COLORS, Object, Scene, Spec


def test_every_caption_of_the_grammar_parses_back_to_its_spec():
    for kind, specs in shapes.all_specs().items():
        for spec in specs:
            assert spec.kind == kind
            assert shapes.parse(shapes.write(spec)) == spec


@pytest.mark.parametrize(
    "caption, spec",
    [
        ("a red circle", Spec("single", (("red", "circle", 1),))),
        ("An Orange square on a grey background.", Spec("single", (("orange", "square", 1),), background="gray")),
        ("a blue triangle on the left", Spec("position", (("blue", "triangle", 1),), position="left")),
        ("three green squares", Spec("count", (("green", "square", 3),))),
        (
            "a red circle above a blue square on a black background",
            Spec("relation", (("red", "circle", 1), ("blue", "square", 1)), relation="above", background="black"),
        ),
    ],
)
def test_captions_say_what_they_say(caption, spec):
    assert shapes.parse(caption) == spec


@pytest.mark.parametrize(
    "caption",
    ["", "a cat", "a pink circle", "four red circles", "a red circle above a red circle", "a red circle on a red one"],
)
def test_other_captions_are_not_in_the_grammar(caption):
    assert shapes.parse(caption) is None


def test_captions_of_scenes_describe_them():
    rng = random.Random(0)
    for spec in (specs[7] for specs in shapes.all_specs().values() if specs[7].kind != "position"):
        scene = shapes.layout(spec, rng)
        told = shapes.parse(shapes.caption(scene))
        assert told.items == spec.items and told.relation == spec.relation
        assert told.background == scene.background
        assert shapes.parse(shapes.caption(scene, background=False)).background is None


def test_a_scene_that_the_grammar_cannot_tell_is_refused():
    things = tuple(Object(color, "circle", 0.5, 0.5, 0.2) for color in ("red", "green", "blue"))
    with pytest.raises(ValueError, match="no caption"):
        shapes.caption(Scene(things, "white"))


def test_a_picture_has_the_colours_and_the_area_of_its_scene():
    picture = np.asarray(shapes.draw(Scene((Object("red", "circle", 0.5, 0.5, 0.4),), "white"), size=64))
    assert picture.shape == (64, 64, 3)
    assert tuple(picture[32, 32]) == COLORS["red"] and tuple(picture[0, 0]) == shapes.BACKGROUNDS["white"]
    share = (picture[..., 1] < 140).mean()
    assert share == pytest.approx(np.pi * 0.2**2, rel=0.05)
    assert np.asarray(shapes.draw(Scene((), "black"), size=32)).shape == (32, 32, 3)


def test_the_split_is_disjoint_repeatable_and_has_every_kind_on_both_sides():
    train, held_out = shapes.prompt_split(40, 16, seed=3)
    assert (len(train), len(held_out)) == (40, 16)
    assert len({*train, *held_out}) == 56
    assert (train, held_out) == shapes.prompt_split(40, 16, seed=3)
    assert held_out != shapes.prompt_split(40, 16, seed=4)[1]
    for prompts in (train, held_out):
        assert {shapes.parse(prompt).kind for prompt in prompts} == set(shapes.KINDS)


def test_more_prompts_than_the_grammar_has_are_refused():
    total = sum(map(len, shapes.all_specs().values()))
    assert len(set(shapes.sample_prompts(total))) == total
    with pytest.raises(ValueError, match="fewer"):
        shapes.sample_prompts(total + 1)
