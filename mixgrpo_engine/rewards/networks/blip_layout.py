"""ImageReward's network, built from the tensors of its published file: BLIP's image and text encoder, and a head.

The file has the names of the BLIP repository (arXiv 2201.12086): a ViT as timm writes it, and a BERT with
cross-attention to the image. The modules are those of transformers, so the names are translated. All sizes come from
the tensors' shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from .filling import filled

if TYPE_CHECKING:
    from transformers import BlipTextConfig, BlipVisionConfig
    from transformers.models.blip.modeling_blip import BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

# BLIP's large and base models alike have heads of this width, in both encoders.
HEAD_WIDTH = 64
VISION, TEXT, HEAD = "blip.visual_encoder.", "blip.text_encoder.", "mlp."
_VISION_NAMES = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.(\d+)\.norm([12])\.", r"encoder.layers.\1.layer_norm\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.\1.self_attn.qkv."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
    (r"^blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
)


class ImageRewardNetwork(nn.Module):
    """forward(pixels, tokens, mask) -> the raw score (batch,), before it is normalised."""

    def __init__(self, vision: BlipVisionModel, text: BlipTextModel, head: nn.Module, image_size: int) -> None:
        super().__init__()
        self.vision, self.text, self.head, self.image_size = vision, text, head, image_size

    @property
    def vocabulary(self) -> int:
        """How many tokens the text encoder knows."""
        return self.text.config.vocab_size

    def forward(self, pixels: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """pixels: (batch, 3, image_size, image_size), normalised; tokens, mask: (batch, length)."""
        image = self.vision(pixel_values=pixels.to(next(self.vision.parameters()).dtype)).last_hidden_state
        words = self.text(input_ids=tokens, attention_mask=mask, encoder_hidden_states=image).last_hidden_state
        return self.head(words[:, 0]).squeeze(-1)


def build(tensors: Mapping[str, Tensor]) -> ImageRewardNetwork:
    """The network with these weights, float32. Raises ValueError with one sentence for another scorer's tensors."""
    from transformers.models.blip.modeling_blip import BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    vision, text, head = (_part(tensors, prefix) for prefix in (VISION, TEXT, HEAD))
    vision = {_vision_name(name): tensor for name, tensor in vision.items()}
    try:
        vision_config, text_config = _vision_config(vision), _text_config(text)
        head_sizes = _head_sizes(head)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"These aren't the weights of ImageReward ({_reason(error)}).") from None
    wanted = {f"vision.{name}": tensor for name, tensor in vision.items()}
    wanted |= {f"text.{name}": tensor for name, tensor in text.items()}
    wanted |= {name.replace("layers.", "head.", 1): tensor for name, tensor in head.items()}

    def make() -> ImageRewardNetwork:
        vision = BlipVisionModel(vision_config)
        text = BlipTextModel(text_config, add_pooling_layer=False)
        return ImageRewardNetwork(vision, text, _head(head_sizes), vision_config.image_size)

    try:
        network, lacking, unknown = filled(make, wanted)
    except ValueError as error:
        raise ValueError(f"These aren't the weights of ImageReward ({error}).") from None
    # Older files hold the positions' numbers, which are no weights.
    unknown = [name for name in unknown if not name.endswith("position_ids")]
    if lacking or unknown:
        what = f"without {lacking[0]}" if lacking else f"with a strange {unknown[0]}"
        raise ValueError(f"These aren't the weights of ImageReward ({what}).")
    return network


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _vision_name(name: str) -> str:
    for pattern, replacement in _VISION_NAMES:
        name, found = re.subn(pattern, replacement, name)
        if found:
            break
    return name


def _vision_config(tensors: Mapping[str, Tensor]) -> BlipVisionConfig:
    from transformers import BlipVisionConfig

    width, _, patch, _ = tensors["embeddings.patch_embedding.weight"].shape
    patches = tensors["embeddings.position_embedding"].shape[1] - 1
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=tensors["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_count(tensors, r"encoder\.layers\.(\d+)\."),
        num_attention_heads=_heads(width),
        image_size=round(patches**0.5) * patch,
        patch_size=patch,
        hidden_act="gelu",
        # BLIP's vit.py, not transformers' default.
        layer_norm_eps=1e-6,
        # What older versions of transformers add to the masks needs the plain attention.
        attn_implementation="eager",
    )


def _text_config(tensors: Mapping[str, Tensor]) -> BlipTextConfig:
    from transformers import BlipTextConfig

    words, width = tensors["embeddings.word_embeddings.weight"].shape
    return BlipTextConfig(
        vocab_size=words,
        hidden_size=width,
        encoder_hidden_size=tensors["encoder.layer.0.crossattention.self.key.weight"].shape[1],
        intermediate_size=tensors["encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=_count(tensors, r"encoder\.layer\.(\d+)\."),
        num_attention_heads=_heads(width),
        max_position_embeddings=tensors["embeddings.position_embeddings.weight"].shape[0],
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        # Builds the cross-attention; the mask stays that of an encoder.
        is_decoder=True,
        pad_token_id=0,
        attn_implementation="eager",
    )


def _head_sizes(tensors: Mapping[str, Tensor]) -> list[tuple[int, int] | None]:
    """(into, out of) each layer of the MLP; None is a dropout."""
    weights = [tensors.get(f"layers.{index}.weight") for index in range(_count(tensors, r"layers\.(\d+)\."))]
    return [None if weight is None else (weight.shape[1], weight.shape[0]) for weight in weights]


def _head(sizes: Sequence[tuple[int, int] | None]) -> nn.Sequential:
    """The MLP. Between its linear layers are only dropouts, which do nothing here, and no activations."""
    return nn.Sequential(*(nn.Identity() if size is None else nn.Linear(*size) for size in sizes))


def _heads(width: int) -> int:
    if width % HEAD_WIDTH:
        raise ValueError(f"a width of {width} isn't a multiple of {HEAD_WIDTH}")
    return width // HEAD_WIDTH


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    numbers = [int(found.group(1)) for name in tensors if (found := re.match(pattern, name))]
    if not numbers:
        raise ValueError("layers are missing")
    return max(numbers) + 1


def _reason(error: Exception) -> str:
    return f"without {error.args[0]}" if isinstance(error, KeyError) else str(error)
