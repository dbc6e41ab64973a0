"""The world of coloured shapes: scenes, their captions, and how they look.

The embedded tiny model was pretrained on this world, and ``rewards/shapes.py`` judges images by it.
A scene is one to three objects on a plain background; a caption asks for some of its attributes:

    a red circle                                     single
    a red circle on the left on a black background   position
    three blue squares on a white background         count
    a red circle to the left of a blue square        relation
"""

import random
import re
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw

COLORS = {
    "red": (225, 35, 35),
    "orange": (245, 140, 25),
    "yellow": (245, 225, 45),
    "green": (35, 165, 70),
    "blue": (40, 85, 220),
    "purple": (150, 55, 190),
}
BACKGROUNDS = {"white": (245, 245, 245), "gray": (128, 128, 128), "black": (20, 20, 20)}
SHAPES = ("circle", "square", "triangle")
COUNTS = {"two": 2, "three": 3}
RELATIONS = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
POSITIONS = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
KINDS = ("single", "position", "count", "relation")

# Side of a shape's box relative to an object's size, so that the three look equally large.
SIDE = {"circle": 1.0, "square": 0.9, "triangle": 1.12}
SUPERSAMPLING = 3


@dataclass(frozen=True)
class Object:
    """One drawn object. x, y: centre of its box; size: see SIDE; all as fractions of the image's side."""

    color: str
    shape: str
    x: float
    y: float
    size: float

    def box(self) -> tuple[float, float, float, float]:
        """left, top, right, bottom as fractions of the image's side."""
        half = self.size * SIDE[self.shape] / 2
        return self.x - half, self.y - half, self.x + half, self.y + half


@dataclass(frozen=True)
class Scene:
    """A whole picture: what is drawn, and the background's name."""

    objects: tuple[Object, ...]
    background: str


@dataclass(frozen=True)
class Spec:
    """What a caption asks for.

    kind: one of KINDS. items: (colour, shape, count) of each thing, in the caption's order.
    relation: where the first item is as seen from the second (a key of RELATIONS), or None.
    position: where the only item is (a key of POSITIONS), or None.
    background: a key of BACKGROUNDS, or None if any will do.
    """

    kind: str
    items: tuple[tuple[str, str, int], ...]
    relation: str | None = None
    position: str | None = None
    background: str | None = None

    @property
    def count(self) -> int:
        """Number of objects asked for."""
        return sum(count for _, _, count in self.items)


# --- captions -----------------------------------------------------------------------------------------------------

_ITEM = r"an? (?P<color{0}>\w+) (?P<shape{0}>\w+)"
_ON = r"(?: on an? (?P<background>\w+) background)?"
_PATTERNS = {
    "position": re.compile(_ITEM.format(1) + " (?P<place>" + "|".join(POSITIONS.values()) + ")" + _ON),
    "relation": re.compile(
        _ITEM.format(1) + " (?P<relation>" + "|".join(RELATIONS.values()) + ") " + _ITEM.format(2) + _ON
    ),
    "count": re.compile(r"(?P<count>two|three) (?P<color1>\w+) (?P<shape1>\w+)s" + _ON),
    "single": re.compile(_ITEM.format(1) + _ON),
}


def _article(color: str) -> str:
    return "an" if color[0] in "aeiou" else "a"


def write(spec: Spec) -> str:
    """The one caption of a spec; ``parse`` is its inverse."""
    nouns = [f"{_article(color)} {color} {shape}" for color, shape, _ in spec.items]
    if spec.kind == "count":
        color, shape, count = spec.items[0]
        text = f"{ {2: 'two', 3: 'three'}[count] } {color} {shape}s"
    elif spec.kind == "relation":
        assert spec.relation is not None
        text = f"{nouns[0]} {RELATIONS[spec.relation]} {nouns[1]}"
    elif spec.kind == "position":
        assert spec.position is not None
        text = f"{nouns[0]} {POSITIONS[spec.position]}"
    else:
        text = nouns[0]
    return text if spec.background is None else f"{text} on a {spec.background} background"


def parse(caption: str) -> Spec | None:
    """What a caption asks for, or None when it is not in the grammar. Case, spaces and "." do not matter."""
    text = " ".join(caption.lower().replace("grey", "gray").replace(".", " ").replace(",", " ").split())
    for kind, pattern in _PATTERNS.items():
        match = pattern.fullmatch(text)
        if match is None:
            continue
        found = match.groupdict()
        items = [(found["color1"], found["shape1"], COUNTS.get(found.get("count", ""), 1))]
        if kind == "relation":
            items.append((found["color2"], found["shape2"], 1))
        background = found["background"]
        if any(color not in COLORS or shape not in SHAPES for color, shape, _ in items):
            return None
        if background is not None and background not in BACKGROUNDS:
            return None
        if len({item[:2] for item in items}) < len(items):  # "a red circle above a red circle" says nothing
            return None
        return Spec(
            kind,
            tuple(items),
            relation=next((k for k, words in RELATIONS.items() if words == found.get("relation")), None),
            position=next((k for k, words in POSITIONS.items() if words == found.get("place")), None),
            background=background,
        )
    return None


def caption(scene: Scene, background: bool = True) -> str:
    """Describe a scene: the count of equal objects, the relation of two, else colour and shape.

    A scene of other objects (three different ones, say) has no caption in the grammar: ValueError.
    """
    objects = scene.objects
    items = [(o.color, o.shape) for o in objects]
    on = scene.background if background else None
    if len(objects) == 1:
        return write(Spec("single", ((*items[0], 1),), background=on))
    if len(set(items)) == 1 and len(items) in COUNTS.values():
        return write(Spec("count", ((*items[0], len(items)),), background=on))
    if len(objects) == 2:
        first, second = objects
        dx, dy = first.x - second.x, first.y - second.y
        if abs(dx) >= abs(dy):
            relation = "left" if dx < 0 else "right"
        else:
            relation = "above" if dy < 0 else "below"
        return write(Spec("relation", ((*items[0], 1), (*items[1], 1)), relation=relation, background=on))
    raise ValueError("no caption in the grammar for these objects")


# --- pictures -----------------------------------------------------------------------------------------------------


def draw(scene: Scene, size: int = 64) -> Image.Image:
    """The scene as an RGB picture of size x size pixels, with smooth edges."""
    scale = size * SUPERSAMPLING
    picture = Image.new("RGB", (scale, scale), BACKGROUNDS[scene.background])
    pen = ImageDraw.Draw(picture)
    for thing in scene.objects:
        left, top, right, bottom = (edge * scale for edge in thing.box())
        right, bottom = right - 1, bottom - 1  # PIL draws the last pixel too
        fill = COLORS[thing.color]
        if thing.shape == "circle":
            pen.ellipse((left, top, right, bottom), fill=fill)
        elif thing.shape == "square":
            pen.rectangle((left, top, right, bottom), fill=fill)
        else:
            pen.polygon([(left, bottom), (right, bottom), ((left + right) / 2, top)], fill=fill)
    return picture.reduce(SUPERSAMPLING)


def layout(spec: Spec, rng: random.Random) -> Scene:
    """A random scene that a caption of this spec describes truly."""

    def near(value: float, spread: float) -> float:
        return value + rng.uniform(-spread, spread)

    background = spec.background or rng.choice(sorted(BACKGROUNDS))
    color, shape, count = spec.items[0]
    if spec.kind == "single":
        return Scene((Object(color, shape, near(0.5, 0.04), near(0.5, 0.04), near(0.40, 0.04)),), background)

    if spec.kind == "position":
        assert spec.position is not None
        centre = {"left": (0.24, 0.5), "right": (0.76, 0.5), "top": (0.5, 0.24), "bottom": (0.5, 0.76)}[spec.position]
        return Scene(
            (Object(color, shape, near(centre[0], 0.03), near(centre[1], 0.03), near(0.34, 0.03)),), background
        )

    if spec.kind == "relation":
        assert spec.relation is not None
        (ax, ay), (bx, by) = {
            "left": ((0.26, 0.5), (0.74, 0.5)),
            "right": ((0.74, 0.5), (0.26, 0.5)),
            "above": ((0.5, 0.26), (0.5, 0.74)),
            "below": ((0.5, 0.74), (0.5, 0.26)),
        }[spec.relation]
        places = [(near(ax, 0.03), near(ay, 0.03)), (near(bx, 0.03), near(by, 0.03))]
        items = [item[:2] for item in spec.items]
        sizes = [near(0.32, 0.03) for _ in items]
    else:
        places = [(near(x, 0.025), near(y, 0.025)) for x, y in rng.choice(_COUNT_LAYOUTS[count])]
        items = [(color, shape)] * count
        sizes = [near(0.31 if count == 2 else 0.27, 0.015)] * count  # things of one kind are equally large
    objects = (Object(c, s, x, y, size) for (c, s), (x, y), size in zip(items, places, sizes, strict=True))
    return Scene(tuple(objects), background)


_COUNT_LAYOUTS = {
    2: [[(0.26, 0.5), (0.74, 0.5)], [(0.5, 0.26), (0.5, 0.74)]],
    3: [[(0.25, 0.72), (0.75, 0.72), (0.5, 0.28)], [(0.25, 0.28), (0.75, 0.28), (0.5, 0.72)]],
}


# --- prompts ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def all_specs() -> dict[str, tuple[Spec, ...]]:
    """Every spec of the grammar, by kind."""
    things = [(color, shape) for color in COLORS for shape in SHAPES]
    grounds = [None, *BACKGROUNDS]
    return {
        "single": tuple(Spec("single", ((*t, 1),), background=g) for t in things for g in grounds),
        "position": tuple(
            Spec("position", ((*t, 1),), position=p, background=g) for t in things for p in POSITIONS for g in grounds
        ),
        "count": tuple(
            Spec("count", ((*t, n),), background=g) for t in things for n in COUNTS.values() for g in grounds
        ),
        "relation": tuple(
            Spec("relation", ((*a, 1), (*b, 1)), relation=r, background=g)
            for a in things
            for b in things
            if a != b
            for r in RELATIONS
            for g in grounds
        ),
    }


def sample_prompts(count: int, seed: int = 0) -> list[str]:
    """``count`` distinct prompts; the kinds take turns, so every kind is represented. ValueError if too many."""
    rng = random.Random(seed)
    piles = {kind: rng.sample(specs, len(specs)) for kind, specs in all_specs().items()}
    if count > sum(map(len, piles.values())):
        raise ValueError(f"the grammar has fewer than {count} prompts")
    prompts: list[str] = []
    while len(prompts) < count:
        for kind in KINDS:
            if piles[kind] and len(prompts) < count:
                prompts.append(write(piles[kind].pop()))
    return prompts


def prompt_split(train: int, held_out: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Two lists of distinct prompts that share none; every kind is in both (from four prompts a list on).

    The same seed always gives the same lists. ValueError if the grammar has too few prompts.
    """
    prompts = sample_prompts(held_out + train, seed)
    return prompts[held_out:], prompts[:held_out]
