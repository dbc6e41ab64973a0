"""MODELs that need more than a prompt, or whose layers have no gradient, are refused before anything is moved."""

import pytest
import torch
from torch import nn

from tests.nodes import tiny_models
from tests.nodes.tiny_models.build import patcher
from tests.nodes.tiny_models.families import _wan


def flux(in_channels):
    """As FLUX with `in_channels` input channels: 96 for Fill, 32 for Canny and Depth; made from the tiny one."""
    import comfy.supported_models

    config = dict(tiny_models.flux().model.model_config.unet_config)
    kind = comfy.supported_models.FluxInpaint if in_channels == 96 else comfy.supported_models.Flux
    return patcher(kind({**config, "in_channels": in_channels}), None, 0)


def wan(kind, **changes):
    import comfy.supported_models

    return patcher(getattr(comfy.supported_models, kind)({**_wan(16, torch.float32), **changes}), None, 0)


def ltxv():
    import comfy.supported_models

    sizes = {"in_channels": 128, "attention_head_dim": 32, "num_attention_heads": 2, "num_layers": 2}
    sizes |= {"cross_attention_dim": 64, "caption_channels": tiny_models.CONTEXT}
    return patcher(comfy.supported_models.LTXV({"image_model": "ltxv", **sizes, "dtype": torch.float32}), None, 0)


UNTRAINABLE = {
    "Fill": (lambda: flux(96), r"\(Flux\) needs a picture and its mask \(80 input channels beside its 16 of latents\)"),
    "Canny, Depth": (lambda: flux(32), r"\(Flux\) needs a picture \(16 input channels beside its 16 of latents\)"),
    "I2V": (
        lambda: wan("WAN21_I2V", model_type="i2v", in_dim=36),
        r"\(WAN21\) needs a picture and its mask \(20 input channels beside its 16 of latents\)",
    ),
    "VACE": (
        lambda: wan("WAN21_Vace", model_type="vace", vace_layers=1, vace_in_dim=96),
        r"\(WAN21_Vace\) needs a control video",
    ),
    "LTXV": (ltxv, r"\(LTXV\) can't be trained: its blocks overwrite tensors"),
}


@pytest.mark.parametrize("name", UNTRAINABLE)
def test_it_is_refused_by_what_it_needs(comfy, room, policy_of, vae, encoded, name):
    build, told = UNTRAINABLE[name]
    model = build()
    with pytest.raises(ValueError, match=told):
        policy_of(model)
    with pytest.raises(ValueError, match=told):
        room("nodes.model.preflight").Preflight(model, vae, encoded, ["red"])


@pytest.mark.parametrize("name", tiny_models.FAMILIES)
def test_models_of_text_alone_are_not(comfy, room, name):
    room("nodes.model.families").check_trainable(tiny_models.FAMILIES[name].build())


class SVDQLinear(nn.Module):
    """A quantised layer of another pack, whose kernel has no backward pass."""

    def __init__(self, layer):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features


def test_layers_that_take_no_lora_are_refused(comfy, policy_of):
    model = tiny_models.sd3()
    block = model.model.diffusion_model.joint_blocks[0].x_block
    block.mlp.fc1 = SVDQLinear(block.mlp.fc1)
    with pytest.raises(ValueError, match=r"layers \(SVDQLinear\) that take no LoRA and may have no gradient"):
        policy_of(model)
