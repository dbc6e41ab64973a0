"""Edits in the world of shapes: a picture, and a caption of what it is to become, with all else as it is."""

from __future__ import annotations

import random
from dataclasses import replace

from PIL import Image

from . import shapes
from .shapes import Scene, Spec


def edited(spec: Spec, scene: Scene, rng: random.Random) -> tuple[Spec, Scene]:
    """With one colour, shape or background changed; everything stays where it is."""
    while True:
        what = rng.choice(["color", "shape", "background"])
        if what == "background":
            ground = rng.choice([each for each in shapes.BACKGROUNDS if each != scene.background])
            return replace(spec, background=ground), replace(scene, background=ground)
        which, names = rng.randrange(len(spec.items)), shapes.COLORS if what == "color" else shapes.SHAPES
        color, shape, count = spec.items[which]
        new = rng.choice([each for each in names if each not in (color, shape)])
        item = (new, shape, count) if what == "color" else (color, new, count)
        items = tuple(item if place == which else each for place, each in enumerate(spec.items))
        if len({each[:2] for each in items}) == len(items):
            objects = tuple(
                replace(thing, color=item[0], shape=item[1]) if (thing.color, thing.shape) == (color, shape) else thing
                for thing in scene.objects
            )
            return replace(spec, items=items), replace(scene, objects=objects)


def examples(count: int, seed: int = 0) -> list[tuple[Image.Image, str]]:
    """(picture, caption of what it is to become), none twice; the kinds of captions take turns."""
    found: dict[str, tuple[Image.Image, str]] = {}
    rng, kinds = random.Random(seed), shapes.all_specs()
    while len(found) < count:
        spec = rng.choice(kinds[shapes.KINDS[len(found) % len(shapes.KINDS)]])
        scene = shapes.layout(spec, rng)
        to_be, after = edited(spec, scene, rng)
        caption = shapes.write(replace(to_be, background=after.background))
        found.setdefault(caption, (shapes.draw(scene), caption))
    return list(found.values())
