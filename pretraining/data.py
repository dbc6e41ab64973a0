"""Pretraining data: pictures of scenes, and captions that are often a little wrong, as captions on the web are."""

import random
from dataclasses import replace

import numpy as np
import torch

from mixgrpo_engine import shapes
from mixgrpo_engine.shapes import Object, Scene, Spec

KIND_WEIGHTS = {"single": 0.2, "position": 0.2, "count": 0.2, "relation": 0.4}
_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def random_spec(rng: random.Random) -> Spec:
    """A spec of the grammar, its kind drawn by KIND_WEIGHTS."""
    kind = rng.choices(list(KIND_WEIGHTS), weights=list(KIND_WEIGHTS.values()))[0]
    return rng.choice(shapes.all_specs()[kind])


def free_scene(rng: random.Random) -> Scene:
    """Any one to three objects anywhere: what only the VAE sees, so that it can also show mistakes."""
    objects = tuple(
        Object(rng.choice(list(shapes.COLORS)), rng.choice(shapes.SHAPES), rng.random(), rng.random(), size)
        for size in (rng.uniform(0.15, 0.6) for _ in range(rng.randint(1, 3)))
    )
    return Scene(objects, rng.choice(list(shapes.BACKGROUNDS)))


def pictures(scenes: list[Scene]) -> torch.Tensor:
    """Scenes as uint8 (scenes, 3, 64, 64)."""
    drawn = np.stack([np.asarray(shapes.draw(scene)) for scene in scenes])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).contiguous()


def true_spec(spec: Spec, scene: Scene, rng: random.Random) -> Spec:
    """A caption's spec that is true of a scene laid out from ``spec``.

    The background is left out of a quarter of the captions; two objects are told in either order.
    """
    spec = replace(spec, background=None if rng.random() < 0.25 else scene.background)
    if spec.kind == "relation" and rng.random() < 0.5:
        return replace(spec, items=spec.items[::-1], relation=_OPPOSITE[spec.relation])
    return spec


def wrong_spec(spec: Spec, rng: random.Random) -> Spec:
    """``spec`` with one attribute told wrongly."""
    while True:
        told = _change(spec, rng)
        if len({item[:2] for item in told.items}) == len(told.items):  # two equal things have no relation to tell
            return told


def _change(spec: Spec, rng: random.Random) -> Spec:
    attributes = ["color", "shape"]
    attributes += {"relation": ["relation"], "position": ["position"]}.get(spec.kind, ["count"])
    attributes += ["background"] if spec.background else []
    attribute = rng.choice(attributes)
    if attribute == "background":
        return replace(spec, background=_other(shapes.BACKGROUNDS, spec.background, rng))
    if attribute == "relation":
        return replace(spec, relation=_other(shapes.RELATIONS, spec.relation, rng))
    if attribute == "position":
        return replace(spec, position=_other(shapes.POSITIONS, spec.position, rng))
    if attribute == "count":
        color, shape, count = spec.items[0]
        count = _other((1, 2, 3), count, rng)
        return replace(spec, kind="single" if count == 1 else "count", items=((color, shape, count),))
    which = rng.randrange(len(spec.items))
    items = list(spec.items)
    color, shape, count = items[which]
    if attribute == "color":
        items[which] = (_other(shapes.COLORS, color, rng), shape, count)
    else:
        items[which] = (color, _other(shapes.SHAPES, shape, rng), count)
    return replace(spec, items=tuple(items))


def _other(names, name, rng: random.Random):
    return rng.choice([candidate for candidate in names if candidate != name])
