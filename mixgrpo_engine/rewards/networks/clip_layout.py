"""The two ways in which CLIP weights are published, brought to one: the names that transformers uses.

transformers: text_model..., vision_model..., text_projection.weight, visual_projection.weight, logit_scale.
open_clip, which OpenAI's own files share: visual..., transformer.resblocks..., token_embedding.weight, text_projection
(transposed), in_proj_weight (query, key and value in one). Whole models and single towers, with any prefix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

# One tensor that a tower always has, in either layout; what stands before it is the file's prefix.
_ANCHORS = (
    "vision_model.embeddings.patch_embedding.weight",
    "text_model.embeddings.token_embedding.weight",
    "visual.conv1.weight",
    "token_embedding.weight",
)
_VISION = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",  # transformers' own spelling
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
_TEXT = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_LAYER = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
# Numbers that can be derived: some files store them, others don't.
_DERIVED = re.compile(r"(.*\.)?(position_ids|attn_mask|input_resolution|context_length|vocab_size)")


@dataclass
class Towers:
    """A file's tensors under transformers' names; an empty tower isn't in the file."""

    # As CLIPVisionModelWithProjection names them: vision_model..., visual_projection.weight.
    vision: dict[str, Tensor] = field(default_factory=dict)
    # As CLIPTextModelWithProjection names them: text_model..., text_projection.weight.
    text: dict[str, Tensor] = field(default_factory=dict)
    # The logarithm of what cosines are multiplied with.
    logit_scale: Tensor | None = None


def towers(tensors: Mapping[str, Tensor], file: str) -> Towers:
    """Sorts the tensors of a CLIP, or of one of its towers. Raises ValueError for what isn't part of one.

    file: named in the error.
    """
    prefix = _prefix(tensors, file)
    found, foreign = Towers(), []
    for name, tensor in tensors.items():
        if _DERIVED.fullmatch(name):
            continue
        renamed = _renamed(name.removeprefix(prefix), tensor) if name.startswith(prefix) else {}
        if not renamed:
            foreign.append(name)
        for new_name, part in renamed.items():
            if new_name == "logit_scale":
                found.logit_scale = part.reshape(())
            else:
                tower = found.vision if new_name.startswith("vis") else found.text
                tower[new_name] = part
    if foreign:
        raise ValueError(f"{file} holds what no CLIP has ({some(foreign)}): choose the weights of a CLIP.")
    return found


def some(names: list[str]) -> str:
    """The first names of a list, for an error's sentence."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _prefix(tensors: Mapping[str, Tensor], file: str) -> str:
    for anchor in _ANCHORS:
        for name in tensors:
            prefix = name.removesuffix(anchor)
            if prefix != name and (not prefix or prefix.endswith(".")):
                return prefix
    raise ValueError(
        f"{file} isn't a CLIP with a vision transformer: neither {_ANCHORS[0]} nor {_ANCHORS[2]} is in it, nor a text "
        "tower. Choose the weights of a CLIP in the layout of transformers or open_clip."
    )


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The tensor, or its parts, by their names in transformers; empty for what isn't part of a CLIP."""
    if name == "logit_scale":
        return {name: tensor} if tensor.numel() == 1 else {}
    if name.startswith(("vision_model.", "text_model.")) or name in (
        "visual_projection.weight",
        "text_projection.weight",
    ):
        return {name: tensor}
    if name == "visual.proj":
        return {"visual_projection.weight": tensor.T}
    name = name.removeprefix("text.")  # open_clip's models with a text tower of its own
    if name == "text_projection":
        return {"text_projection.weight": tensor.T}
    if name.startswith("visual."):
        return _open_clip(name.removeprefix("visual."), tensor, _VISION, "vision_model.")
    return _open_clip(name, tensor, _TEXT, "text_model.")


def _open_clip(name: str, tensor: Tensor, names: Mapping[str, str], tower: str) -> dict[str, Tensor]:
    if name in names:
        return {tower + names[name]: tensor}
    block = _BLOCK.fullmatch(name)
    if not block:
        return {}
    number, rest = block.groups()
    layer = f"{tower}encoder.layers.{number}."
    if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
        kind = rest.rpartition("_")[2]
        if not tensor.ndim or len(tensor) % 3:
            return {}
        return {f"{layer}self_attn.{part}_proj.{kind}": rows for part, rows in zip("qkv", tensor.chunk(3), strict=True)}
    module, _, kind = rest.rpartition(".")
    return {f"{layer}{_LAYER[module]}.{kind}": tensor} if module in _LAYER else {}
