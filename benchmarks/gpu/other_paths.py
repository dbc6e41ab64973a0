"""Training without ComfyUI, and the VAE of real models."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from mixgrpo_engine.policies.diffusers_folder import FAMILIES
from mixgrpo_engine.prompts import PromptSet

from .. import full_size
from ..measured_bytes import measured_peak
from ..model_call import model_call
from . import trained
from .check import Check, section
from .costs import GB

NAME = "flux1-dev bf16"


@section(35)
def diffusers_flux(check: Check) -> dict:
    """FLUX.1-dev as diffusers has it: calls, and a short iteration."""
    from mixgrpo_engine.policies.diffusers_policy import DiffusersPolicy

    config = trained.settings(check, rollout={"steps": 6})
    encoded = {}
    for seed, prompt in enumerate(("", *trained.PROMPTS)):
        ((tokens, extra),) = full_size.random_prompt(NAME, seed, check.small)
        encoded[prompt] = {"tokens": tokens[0], "pooled": extra["pooled_output"][0]}
    policy = DiffusersPolicy(
        _folder(check), encoded, width=config.run.width, height=config.run.height, device=check.device,
        dtype=torch.bfloat16, adapter=config.adapter, gradient_checkpointing=True,
    )  # fmt: skip
    rows = []
    for images in (1, 3):
        forward, update = (model_call(policy, images, gradient) for gradient in (False, True))
        row = {"images": images, "forward s": check.seconds(forward), "forward and backward s": check.seconds(update)}
        with policy.base():
            row["without LoRA s"] = check.seconds(forward)
        rows.append({**row, "update GB": measured_peak(update, check.device) / GB})
    subject = SimpleNamespace(policy=lambda _config: policy, prompts=PromptSet(trained.PROMPTS, ()))
    event, seconds = trained.step(trained.trainer(check, subject, config))
    return {"calls": rows, "iteration of 6 steps s": seconds, "mean |ratio - 1|": event.ratio_deviation}


def _folder(check: Check) -> SimpleNamespace:
    """A DiffusersFolder whose parts are random."""
    import diffusers

    heads, width = (2, 32) if check.small else (24, 128)
    layers = {"num_layers": 1, "num_single_layers": 1} if check.small else {"num_layers": 19, "num_single_layers": 38}
    ((tokens, extra),) = full_size.random_prompt(NAME, 0, check.small)

    def transformer(dtype: torch.dtype):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with check.device:
                made = diffusers.FluxTransformer2DModel(
                    in_channels=64, attention_head_dim=width, num_attention_heads=heads, guidance_embeds=True,
                    axes_dims_rope=(8, 12, 12) if check.small else (16, 56, 56), **layers,
                    joint_attention_dim=tokens.shape[-1], pooled_projection_dim=extra["pooled_output"].shape[-1],
                )  # fmt: skip
        finally:
            torch.set_default_dtype(before)
        return full_size.randomise(made, check.device)

    def vae():
        return diffusers.AutoencoderKL(
            block_out_channels=(8,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=16, norm_num_groups=8, scaling_factor=0.36,
            shift_factor=0.1,
        )  # fmt: skip

    return SimpleNamespace(
        family=FAMILIES["FluxPipeline"],
        scheduler=lambda: diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=transformer,
        vae=vae,
    )
