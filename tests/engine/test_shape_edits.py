"""Edits of shapes: one thing changes, and the caption tells what the picture becomes."""

import random

from mixgrpo_engine import shape_edits, shapes


def test_one_colour_shape_or_background_changes_and_everything_stays_in_its_place():
    rng, kinds = random.Random(1), set()
    for specs in shapes.all_specs().values():
        for spec in rng.sample(specs, 40):
            before = shapes.layout(spec, rng)
            to_be, after = shape_edits.edited(spec, before, rng)
            assert [(each.x, each.y, each.size) for each in before.objects] == [
                (each.x, each.y, each.size) for each in after.objects
            ]
            pairs = list(zip(before.objects, after.objects, strict=True))
            changed = {
                "color": any(one.color != other.color for one, other in pairs),
                "shape": any(one.shape != other.shape for one, other in pairs),
                "background": before.background != after.background,
            }
            assert sum(changed.values()) == 1
            kinds |= {name for name, there in changed.items() if there}
            assert [item[:2] for item in to_be.items] == list(dict.fromkeys((o.color, o.shape) for o in after.objects))
            assert to_be.background in (None, after.background)
    assert kinds == {"color", "shape", "background"}


def test_examples_are_the_same_for_a_seed_and_each_caption_comes_once():
    found = shape_edits.examples(40, seed=3)
    captions = [caption for _, caption in found]
    assert len(set(captions)) == 40 and captions == [caption for _, caption in shape_edits.examples(40, seed=3)]
    assert captions != [caption for _, caption in shape_edits.examples(40, seed=4)]
    assert {shapes.parse(caption).kind for caption in captions} == set(shapes.KINDS)
    assert all(shapes.parse(caption).background for caption in captions)
    assert {picture.size for picture, _ in found} == {(64, 64)}
