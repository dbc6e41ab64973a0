"""CLIP networks from their weights alone: sizes are read off the tensors' shapes, transformers' classes do the rest."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from ..files import weight_files
from .clip_layout import some, towers
from .filling import filled

if TYPE_CHECKING:
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

ACTIVATIONS = ("auto", "quick_gelu", "gelu")
# Vision transformers whose heads aren't 64 wide: ViT-H, ViT-g and ViT-bigG.
_VISION_HEADS = {1280: 16, 1408: 16, 1664: 16}
# OpenAI's CLIPs (B/32, B/16, L/14) are this wide at most, vision and text; they use quick_gelu, the larger ones gelu.
_OPENAI_WIDTH = {"vision": 1024, "text": 768}
# What a config.json leaves out: CLIP ViT-B/32.
_DEFAULTS = {
    "vision": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_act": "quick_gelu"},
    "text": {"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "hidden_act": "quick_gelu"},
}


class Clip(nn.Module):
    """Image and text embeddings in one space.

    text is None when it wasn't asked for; scale, what cosines are multiplied with, when the file doesn't tell.
    """

    def __init__(
        self,
        vision: CLIPVisionModelWithProjection,
        text: CLIPTextModelWithProjection | None,
        logit_scale: Tensor | None,
    ) -> None:
        super().__init__()
        self.vision, self.text = vision, text
        # A plain number: in bfloat16 it would be 1% off.
        self.scale = None if logit_scale is None else math.exp(float(logit_scale))

    @property
    def image_size(self) -> int:
        """Height and width of its input in pixels."""
        return self.vision.config.image_size

    @property
    def width(self) -> int:
        """Numbers of an embedding."""
        return self.vision.config.projection_dim

    def embed_images(self, pixels: Tensor) -> Tensor:
        """(batch, 3, size, size), normalised -> float32 (batch, width) of length 1."""
        return F.normalize(self.vision(pixels.to(self.vision.dtype)).image_embeds.float(), dim=-1)

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Token ids (batch, tokens) -> float32 (batch, width) of length 1. What follows a row's end is ignored."""
        assert self.text is not None
        return F.normalize(self.text(tokens).text_embeds.float(), dim=-1)


def load(
    path: str | Path,
    *,
    text_path: str | Path | None = None,
    activation: str = "auto",
    with_text: bool = True,
    end_token: int = 49407,
) -> Clip:
    """A CLIP in float32 on the CPU, from a file in the layout of transformers, open_clip or OpenAI.

    text_path: the text tower's file when it isn't in the first. activation: "quick_gelu" or "gelu"; shapes don't tell
    it. "auto" takes the config.json of transformers beside the file if it is of this size, else quick_gelu for OpenAI's
    sizes (ViT-B, ViT-L) and gelu for larger ones: LAION's ViT-B and ViT-L need "gelu". end_token: the id of the
    token that ends a prompt. Raises FileNotFoundError or ValueError with one sentence.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is '{activation}': it must be one of {', '.join(ACTIVATIONS)}.")
    path = Path(path)
    both = towers(weight_files.read(path), path.name)
    if not both.vision:
        raise ValueError(f"{path.name} holds the text tower of a CLIP only: the file with the vision tower is needed.")
    vision = _vision(both.vision, path, activation)
    if not with_text:
        return Clip(vision, None, both.logit_scale)
    text_path = Path(text_path or path)
    tensors = both.text if text_path == path else towers(weight_files.read(text_path), text_path.name).text
    if not tensors:
        raise ValueError(f"{text_path.name} holds no text tower of a CLIP: give its file as text_weights.")
    text = _text(tensors, text_path, activation, end_token)
    if text.config.projection_dim != vision.config.projection_dim:
        raise ValueError(
            f"{path.name} embeds images as {vision.config.projection_dim} numbers, but {text_path.name} texts as "
            f"{text.config.projection_dim}: they must be the towers of one CLIP."
        )
    return Clip(vision, text, both.logit_scale)


def _vision(tensors: Mapping[str, Tensor], path: Path, activation: str) -> CLIPVisionModelWithProjection:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    patches = _tensor(tensors, "vision_model.embeddings.patch_embedding.weight", path, 4)
    positions = len(_tensor(tensors, "vision_model.embeddings.position_embedding.weight", path, 2)) - 1
    side = round(max(positions, 0) ** 0.5)
    if not positions or side**2 != positions:
        raise ValueError(f"{path.name} has {positions} image patches: only CLIPs for square images are known.")
    config = CLIPVisionConfig(
        **_sizes(tensors, "vision", path, activation),
        projection_dim=len(_tensor(tensors, "visual_projection.weight", path, 2)),
        patch_size=patches.shape[-1],
        image_size=side * patches.shape[-1],
    )
    return _filled(CLIPVisionModelWithProjection, config, tensors, path)


def _text(tensors: Mapping[str, Tensor], path: Path, activation: str, end_token: int) -> CLIPTextModelWithProjection:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    tokens = len(_tensor(tensors, "text_model.embeddings.token_embedding.weight", path, 2))
    if end_token >= tokens:
        raise ValueError(f"{path.name} knows {tokens} tokens, but the tokenizer has more: it is another CLIP's.")
    config = CLIPTextConfig(
        **_sizes(tensors, "text", path, activation),
        projection_dim=len(_tensor(tensors, "text_projection.weight", path, 2)),
        vocab_size=tokens,
        max_position_embeddings=len(_tensor(tensors, "text_model.embeddings.position_embedding.weight", path, 2)),
        eos_token_id=end_token,
    )
    return _filled(CLIPTextModelWithProjection, config, tensors, path)


def _sizes(tensors: Mapping[str, Tensor], tower: str, path: Path, activation: str) -> dict:
    """What both towers' configs have."""
    first = f"{tower}_model.encoder.layers.0."
    inner, width = _tensor(tensors, f"{first}mlp.fc1.weight", path, 2).shape
    layers = {name.split(".")[3] for name in tensors if name.startswith(f"{tower}_model.encoder.layers.")}
    stored = _stored_config(path, tower, width, len(layers))
    heads = stored.get("num_attention_heads") or (_VISION_HEADS.get(width) if tower == "vision" else None)
    if not heads and width % 64:
        raise ValueError(
            f"{path.name}: how many attention heads a {tower} tower of width {width} has can't be told. Put the "
            "config.json that came with it beside it."
        )
    if activation == "auto":
        usual = "quick_gelu" if width <= _OPENAI_WIDTH[tower] else "gelu"
        activation = stored.get("hidden_act", usual)
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads or width // 64,
        "hidden_act": activation,
    }


def _stored_config(path: Path, tower: str, width: int, layers: int) -> dict:
    """Heads and activation from transformers' config.json beside the file; {} without one, or if it is another's."""
    try:
        config = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.parent / 'config.json'} can't be read as JSON ({error}): mend or remove it.") from None
    if not isinstance(config, dict) or not str(config.get("model_type", "")).startswith("clip"):
        return {}
    part = config.get(f"{tower}_config", config)
    if not isinstance(part, dict):
        return {}
    part = {**_DEFAULTS[tower], **part}
    if (part["hidden_size"], part["num_hidden_layers"]) != (width, layers):
        return {}
    heads, act = part["num_attention_heads"], part["hidden_act"]
    if act not in ACTIVATIONS[1:] or not isinstance(heads, int) or heads < 1 or width % heads:
        raise ValueError(
            f"{path.parent / 'config.json'}: {heads} attention heads and '{act}' can't be those of {path.name}; mend "
            "or remove it."
        )
    return {"num_attention_heads": heads, "hidden_act": act}


def _tensor(tensors: Mapping[str, Tensor], name: str, path: Path, dimensions: int) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None:
        raise ValueError(f"{path.name} lacks {name}: it isn't complete, or not the weights of a CLIP with projections.")
    if tensor.ndim != dimensions:
        raise ValueError(f"{path.name}: {name} has the shape {tuple(tensor.shape)}, which no CLIP has.")
    return tensor


def _filled(
    kind: type[nn.Module], config: CLIPVisionConfig | CLIPTextConfig, tensors: Mapping[str, Tensor], path: Path
) -> nn.Module:
    """The network with these very tensors in it."""
    try:
        network, lacking, unknown = filled(lambda: kind(config), tensors)
    except ValueError as error:
        raise ValueError(f"{path.name} isn't a CLIP whose parts fit each other: {error}") from None
    if lacking:
        raise ValueError(f"{path.name} lacks {some(lacking)}: it isn't complete, download it again.")
    if unknown:
        raise ValueError(f"{path.name} holds what no CLIP has ({some(unknown)}): choose the weights of a CLIP.")
    return network
