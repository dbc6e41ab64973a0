"""Settings for cards that people have: which fit is an estimate (docs/memory.md), none of them was run on a GPU.

Only what matters for memory is here; everything else is a preset's (presets.py). The workflows' templates for cards are
made from these.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config import TrainConfig
from ..presets import PRESETS


@dataclass(frozen=True)
class Card:
    """A model, a card, and settings under which the one should be trained on the other."""

    gigabytes: int  # the card's memory, GB of 2**30 bytes
    model: str  # and its weights' dtype
    preset: str  # of presets.py
    template: str  # of workflows/, made from this by scripts/card_templates.py
    settings: dict[str, dict] = field(default_factory=dict)  # what differs from the preset

    def config(self) -> TrainConfig:
        """The settings of a run. Prompts, iterations and the rest of a run keep their defaults."""
        groups = PRESETS[self.preset]
        names = [*groups, *(name for name in self.settings if name not in groups)]
        return TrainConfig.from_dict({name: {**groups.get(name, {}), **self.settings.get(name, {})} for name in names})


# The MixGRPO authors' later recipe: 16 images of each of 3 prompts, a window of 4 that starts again, a LoRA on
# attention, which in FLUX's kin is part of larger layers. Noise levels are the MODEL's own.
_UNIRL = "MixGRPO SD3.5 UniRL"
_512 = {"width": 512, "height": 512, "gradient_checkpointing": True}
_1024 = {"width": 1024, "height": 1024, "gradient_checkpointing": True}

CARDS: dict[str, Card] = {
    "SD3.5 medium, 512 px, 8 GB": Card(8, "sd3.5_medium bf16", "MixGRPO SD3.5", "sd35_medium_8gb", {"run": _512}),
    "SD3.5 medium, 512 px, 16 GB": Card(16, "sd3.5_medium bf16", "MixGRPO SD3.5", "sd35_medium_16gb", {"run": _512}),
    "FLUX.1-dev fp8, 512 px, 12 GB": Card(
        12, "flux1-dev fp8", "MixGRPO-Flash", "flux_dev_12gb", {"run": _512, "adapter": {"rank": 16, "alpha": 32.0}}
    ),
    "FLUX.1-dev fp8, 512 px, 24 GB": Card(
        24, "flux1-dev fp8", "MixGRPO-Flash", "flux_dev_fp8_24gb", {"run": _512, "adapter": {"rank": 16, "alpha": 32.0}}
    ),
    "FLUX.1-dev bf16, 512 px, 48 GB": Card(48, "flux1-dev bf16", "MixGRPO", "flux_dev_48gb", {"run": _512}),
    "FLUX.1-dev bf16, 1024 px, 80 GB": Card(80, "flux1-dev bf16", "MixGRPO", "flux_dev_80gb", {"run": _1024}),
    # X-GenGroup/Flow-Factory, grpo/lora/z_image: 10 steps, guidance 4.
    "Z-Image bf16, 512 px, 16 GB": Card(
        16, "z_image bf16", _UNIRL, "z_image_16gb", {"run": _512, "rollout": {"steps": 10, "cfg": 4.0, "shift": 0.0}}
    ),
    # Tencent-Hunyuan/UniRL, qwen_image_mixgrpo: 12 steps without guidance, at 384 px.
    "Qwen-Image fp8, 512 px, 24 GB": Card(
        24, "qwen_image fp8", _UNIRL, "qwen_image_24gb", {"run": _512, "rollout": {"steps": 12, "shift": 0.0}}
    ),
    # Flow-Factory, grpo/lora/flux2_klein_base: 8 steps, guidance 4, at 384 px.
    "FLUX.2 klein base 4B fp8, 512 px, 12 GB": Card(
        12,
        "flux2-klein-base-4b fp8",
        _UNIRL,
        "flux2_klein_12gb",
        {"run": _512, "rollout": {"steps": 8, "cfg": 4.0, "shift": 0.0}, "adapter": {"targets": ""}},
    ),
    # No such training of Chroma is published. Guidance of ComfyUI's own template.
    "Chroma1-HD fp8, 512 px, 16 GB": Card(
        16,
        "chroma1-hd fp8",
        _UNIRL,
        "chroma_16gb",
        {"run": _512, "rollout": {"cfg": 3.5, "shift": 0.0}, "adapter": {"targets": ""}},
    ),
    # UniRL, wan22_t2v_14b_mixgrpo: 20 steps, 640 x 480; frames and guidance of Flow-Factory's grpo wan22/t2v. Both
    # train the 14B's two networks at once, which a run here can't: so the 5B, which is one.
    "Wan 2.2 5B fp16, 640 x 480, 24 GB": Card(
        24,
        "wan2.2_ti2v_5B fp16",
        _UNIRL,
        "wan22_5b_24gb",
        {
            "run": {"width": 640, "height": 480, "frames": 5, "gradient_checkpointing": True},
            "rollout": {"steps": 20, "cfg": 5.0, "shift": 0.0},
        },
    ),  # fmt: skip
}
