"""What a file of weights is, told by the names and shapes of its tensors and by its own name.

Each scorer needs one kind. A file of another version or another model is refused as what it is: some would fit the
network and give numbers that mean something else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from . import weight_files

VISION, TEXT, IMAGE_REWARD_NETWORK, HEAD = "vision", "text", "image reward", "head"
Shapes = Mapping[str, tuple[int, ...]]

# The published vision transformers, by width and patch.
_VITS = {
    (768, 32): "ViT-B/32",
    (768, 16): "ViT-B/16",
    (1024, 14): "ViT-L/14",
    (1280, 14): "ViT-H/14",
    (1408, 14): "ViT-g/14",
    (1664, 14): "ViT-bigG/14",
}
_EYES = re.compile(r"(.*\.)?(vision_model\.embeddings\.patch_embedding|visual\.conv1)\.weight")
_PLACES = re.compile(r"(.*\.)?(vision_model\.embeddings\.position_embedding\.weight|visual\.positional_embedding)")
_PIXELS = 224  # of most of them; others are named by their own
_WORDS = re.compile(r"(.*\.)?(text_model\.embeddings\.)?token_embedding\.weight")
_HEAD_LAYERS = {0, 2, 4, 6, 7}
# Something that only such a file holds -> what it is. The first that is found counts.
_OTHERS = (
    (r"rm_head\.", "HPSv3, or another reward on Qwen2-VL"),
    (r"(.*\.)?(vision_model\.head\.probe|logit_bias)", "a SigLIP"),
    (r".*(\.lora_[AB]\.|\.lora_(up|down)\.|\.lokr_|\.hada_)", "a LoRA"),
    (r"(.*\.)?(double_blocks|joint_blocks|transformer_blocks|single_blocks)\.0\.", "a diffusion model"),
    (r"model\.diffusion_model\.", "a checkpoint of a diffusion model"),
    (r"(.*\.)?encoder\.block\.0\.layer\.0\.SelfAttention\.", "a T5 text encoder"),
    (r"(.*\.)?decoder\.conv_in\.", "a VAE"),
    (r"(.*\.)?model\.layers\.0\.", "a language model"),
    (r"(visual_encoder|text_decoder)\.", "a BLIP without ImageReward's head"),
    (r"predictor\.|(linear\.)?weight", "another aesthetic predictor"),
)


@dataclass(frozen=True)
class Layout:
    """parts: what of it a scorer could use; vit: its vision transformer, "" for none that is published."""

    words: str
    parts: frozenset[str] = frozenset()
    vit: str = ""


@dataclass(frozen=True)
class Kind:
    """What a scorer needs."""

    # For sentences: "HPS v2.1".
    name: str
    parts: frozenset[str]
    # What its files are called; one whose name has only other kinds' words isn't offered.
    words: tuple[str, ...]
    vit: str = ""
    # Of a file's name in small letters -> which version has such a name.
    versions: tuple[tuple[str, str], ...] = ()


HPS = Kind(
    "HPS v2.1",
    frozenset({VISION, TEXT}),
    ("hps", "hpc.pt"),
    "ViT-H/14",
    ((r"hps[_-]?v?3", "HPSv3"), (r"hps[_-]?v?2(?![._-]?1)", "HPS v2.0"), (r"hps[_-]?v?1|hpc\.pt", "HPS v1")),
)
PICK_SCORE = Kind("PickScore", frozenset({VISION, TEXT}), ("pick",), "ViT-H/14")
IMAGE_REWARD = Kind("ImageReward", frozenset({IMAGE_REWARD_NETWORK}), ("imagereward", "image_reward", "image-reward"))
CLIP = Kind("a CLIP", frozenset({VISION}), ("clip",))
EYES = Kind("OpenAI's CLIP ViT-L/14", CLIP.parts, CLIP.words, "ViT-L/14")
CLIP_TEXT = Kind("the text tower of a CLIP", frozenset({TEXT}), ("clip",))
AESTHETIC = Kind(
    "the head of LAION's improved aesthetic predictor",
    frozenset({HEAD}),
    ("aesthetic", "linearmse", "relumse", "sa_0_4"),
    versions=(
        (r"v2[._-]?5", "Aesthetic Predictor V2.5, which looks through a SigLIP"),
        (r"sa_0_4|vit_[a-z]_\d+_linear", "LAION's first aesthetic predictor"),
        (r"ava\+logos-l14", "an earlier version's head"),
    ),
)
KINDS = (HPS, PICK_SCORE, IMAGE_REWARD, CLIP, AESTHETIC)


def another(kind: Kind, path: str | Path) -> str:
    """What a file is that can't serve as this kind; "" where it can, or where nobody can tell.

    Only names and shapes are read, once for a file as it is.
    """
    path = Path(path)
    named = next((version for pattern, version in kind.versions if re.search(pattern, path.name.lower())), "")
    if named:
        return f"{named} by its name"
    found = of_file(path)
    if found is None or (kind.parts <= found.parts and (not kind.vit or found.vit in ("", kind.vit))):
        return ""
    return found.words


def require(kind: Kind, path: str | Path, choose: str) -> None:
    """Raises ValueError with one sentence for a file that is something else. choose: the file that is meant."""
    if words := another(kind, path):
        raise ValueError(f"{Path(path).name} is {words}, not {kind.name}: choose {choose}.")


def may_be_named(kind: Kind, name: str) -> bool:
    """Whether a file of this name may be of this kind: its name says so, or nothing."""
    says = {each.words for each in KINDS if any(word in Path(name).name.lower() for word in each.words)}
    return not says or kind.words in says


def of_file(path: Path) -> Layout | None:
    """None for a file that can't be read, or that nobody knows."""
    try:
        found = path.stat()
    except OSError:
        return None
    return _of_file(str(path), found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1000)
def _of_file(path: str, _size: int, _changed: int) -> Layout | None:
    try:
        return layout(weight_files.shapes(path))
    except (ValueError, OSError):
        return None


def layout(shapes: Shapes) -> Layout | None:
    """What tensors of these names and shapes are; None if it isn't known."""
    if any(name.startswith("blip.visual_encoder.") for name in shapes) and any(
        name.startswith("mlp.layers.") for name in shapes
    ):
        return Layout("ImageReward", frozenset({IMAGE_REWARD_NETWORK}))
    return _other(shapes) or _clip(shapes) or _head(shapes)


def _clip(shapes: Shapes) -> Layout | None:
    eyes = next((shapes[name] for name in shapes if _EYES.fullmatch(name)), None)
    words = any(_WORDS.fullmatch(name) for name in shapes)
    vit = _vit(eyes, next((shapes[name] for name in shapes if _PLACES.fullmatch(name)), ())) if eyes else ""
    called = f"CLIP {vit}".strip()
    if eyes is not None and not any(name.endswith("class_embedding") for name in shapes):
        return Layout("an image encoder without CLIP's class token, such as SigLIP's")
    if eyes is not None and words:
        return Layout(f"a {called}", frozenset({VISION, TEXT}), vit)
    if eyes is not None:
        return Layout(f"the vision tower of a {called} alone", frozenset({VISION}), vit)
    return Layout("the text tower of a CLIP alone", frozenset({TEXT})) if words else None


def _vit(eyes: tuple[int, ...], places: tuple[int, ...]) -> str:
    """eyes: the shape of the patches' convolution; places: (patches + 1, width), () if it isn't there."""
    vit = _VITS.get((eyes[0], eyes[-1]), "") if len(eyes) == 4 else ""
    pixels = eyes[-1] * math.isqrt(places[0] - 1) if vit and places and places[0] > 1 else _PIXELS
    return vit if pixels == _PIXELS else f"{vit} at {pixels} pixels"


def _head(shapes: Shapes) -> Layout | None:
    layers = [re.fullmatch(r"layers\.(\d+)\.(weight|bias)", name) for name in shapes]
    if not layers or not all(layers):
        return None
    if {int(layer[1]) for layer in layers if layer} != _HEAD_LAYERS:
        return Layout("the head of another aesthetic predictor")
    return Layout("the head of an aesthetic predictor", frozenset({HEAD}))


def _other(shapes: Shapes) -> Layout | None:
    for pattern, words in _OTHERS:
        if any(re.match(pattern, name) for name in shapes):
            return Layout(words)
    return None
