"""Published settings by name: what each differs in from the defaults of config/, which are MixGRPO's for FLUX.1.

Each says where its numbers are from, and what differs on purpose. In all of them the number of prompts is that of one
GPU of the source's 8 to 32, rounded up.
"""

from __future__ import annotations

from .config import TrainConfig

Groups = dict[str, dict]


def _with(base: Groups, **groups: dict) -> Groups:
    """The base with some settings changed."""
    return {name: {**base.get(name, {}), **groups.get(name, {})} for name in [*base, *groups]}


# LoRA and learning rate belong together: rank 32 with alpha 64 at 3e-4 (Flow-GRPO, UniRL; Flow-Factory and verl-omni
# have 64 with 128, DanceGRPO 128 with 256, all at 3e-4). The KL mask's threshold is that of UniRL and verl-omni.
_LORA: Groups = {
    "adapter": {"rank": 32, "alpha": 64.0},
    "optimizer": {"learning_rate": 3e-4},
    "loss": {"kl_mask_threshold": 1e-5},
}
_MIX_GRPO = _with(_LORA, rollout={"shift": 3.0})
_DANCE_GRPO = _with(
    _MIX_GRPO, rollout={"transition": "dance_sde", "eta": 0.3}, window={"size": 0, "trained_share": 0.6}
)
_SD35 = _with(_LORA, rollout={"steps": 10, "shift": 3.0, "group_size": 24, "prompts_per_iteration": 3, "cfg": 4.5})
# Window of 3 at a random place in the first half of 10 steps.
_FIRST_HALF = {"size": 3, "strategy": "random", "max_start": 2}
# The attention between picture and text, without SD3.5's second one (attn2); under other families' names as well.
_ATTENTION = "attn., attn1., attention."
# Flow-GRPO's code on SD3.5 M: every image starts from its own noise, diffusers' noise levels, 2 updates an iteration,
# the spread over all groups, a LoRA on attention only. Its average takes .9 every 8 updates, which are 4 iterations:
# .974 each. On purpose: the LoRA starts from Kaiming's uniform values as peft's default, not from Gaussian ones.
_FLOW_GRPO = _with(
    _SD35,
    rollout={"prompts_per_iteration": 2, "shared_noise": False, "spacing": "diffusers"},
    window={"size": 0},
    loss={"spread": "iteration"},
    optimizer={"updates": 2, "ema_decay": 0.974},
    adapter={"targets": _ATTENTION},
)
# UniRL's SD3.5 recipes, without guidance. Its average (.99) is left out, as in its newer trainer.
_UNIRL = _with(
    _SD35,
    rollout={"group_size": 16, "cfg": 1.0},
    loss={"spread": "iteration"},
    optimizer={"updates": 2},
    adapter={"targets": _ATTENTION},
)

PRESETS: dict[str, Groups] = {
    # arXiv 2507.21802 on FLUX.1 [dev]. On purpose: a LoRA, where the paper trains all weights at 1e-5.
    "MixGRPO": _MIX_GRPO,
    # The same paper on SD3.5 M with a LoRA. It prints neither the KL's form (taken as Flow-GRPO's, from whose settings
    # it starts) nor the average's span (.9 an iteration), nor the LoRA's size.
    "MixGRPO SD3.5": _with(
        _SD35,
        window={"interval": 150},
        loss={"kl_weight": 0.001, "kl_space": "flow_grpo"},
        optimizer={"ema_decay": 0.9},
    ),
    # The authors' later recipe (Tencent-Hunyuan/UniRL, sd3_mixgrpo): no guidance, no KL, the window starts again.
    "MixGRPO SD3.5 UniRL": _with(_UNIRL, window={"interval": 25, "wrap": True}),
    # The paper's: few and larger steps after the window, by a second-order solver. Its 16 calls an image on average.
    "MixGRPO-Flash": _with(_MIX_GRPO, rollout={"flash_ratio": 0.4, "tail_order": 2}, window={"interval": 20}),
    # The paper's cheapest: the window stays at the first steps. Its 8 calls an image.
    "MixGRPO-Flash*": _with(_MIX_GRPO, rollout={"flash_ratio": 0.2, "tail_order": 2}, window={"strategy": "frozen"}),
    # The MixGRPO paper's baseline of arXiv 2505.07818: every step stochastic, a random 60% of them trained (14 of 24).
    # On purpose: the same steps for all images of an iteration, where DanceGRPO draws them for each image.
    "DanceGRPO": _DANCE_GRPO,
    # DanceGRPO's own script for FLUX.1 (its LoRA one takes 12 steps), with the same two differences.
    "DanceGRPO 16 steps": _with(
        _DANCE_GRPO, rollout={"steps": 16, "prompts_per_iteration": 2}, optimizer={"updates": 2}
    ),
    # arXiv 2505.05470, the code's PickScore recipe (its GenEval and OCR recipes weigh the KL .04).
    "Flow-GRPO": _with(_FLOW_GRPO, loss={"kl_weight": 0.01, "kl_space": "flow_grpo"}),
    # The code's fast PickScore recipe: two steps at a random place, a group shares the steps before them.
    "Flow-GRPO-Fast": _with(
        _FLOW_GRPO,
        rollout={"eta": 0.8, "shared_noise": True},
        window={"size": 2, "strategy": "random"},
        loss={"clip_range": 1e-5},
    ),
    # Flow-GRPO's code, "fast without guidance" on PickScore: CPS. On purpose: a clip of 8e-6. Its 1e-5 belongs to a
    # log-probability without 1 / (2 s^2); in ours that is .6e-5 at the first step to 1.1e-5 at the fifth.
    "Few steps, no guidance": _with(
        _FLOW_GRPO,
        rollout={"transition": "cps", "eta": 0.8, "group_size": 18, "cfg": 1.0},
        window=_FIRST_HALF,
        loss={"clip_range": 8e-6},
    ),
    # arXiv 2510.22319, the code's PickScore recipe on SD3.5 M (its GenEval and OCR recipes clip at 2e-6).
    "GRPO-Guard": _with(
        _FLOW_GRPO,
        rollout={"prompts_per_iteration": 3},
        loss={"surrogate": "ratio_norm", "clip_range": 4e-6, "spread": "group"},
        optimizer={"learning_rate": 1e-4},
    ),
    # arXiv 2606.11025, the authors' code (UniRL, sd3_flowdppo). On purpose: its three random steps lie side by side.
    "Flow-DPPO": _with(
        _UNIRL,
        rollout={"prompts_per_iteration": 6, "shared_noise": False},
        window=_FIRST_HALF,
        loss={"surrogate": "kl_mask"},
        optimizer={"weight_decay": 0.0},
    ),
    # arXiv 2508.04324 on Flow-GRPO's settings: the images of a group share their start and part at one random step,
    # whose loss weighs what its noise does. On purpose: one such step an iteration, where the paper takes all.
    "TempFlow-GRPO": _with(
        _FLOW_GRPO,
        rollout={"shared_noise": True},
        window={"size": 1, "strategy": "random"},
        loss={"step_weights": "noise", "kl_weight": 0.01, "kl_space": "flow_grpo"},
    ),
    # arXiv 2509.16117, the code's recipes of one reward on SD3.5 M (texts and several rewards: beta .1; several: 25
    # steps). On purpose: the same noise levels for all images of an iteration (all but the last, next to 0), where its
    # code leaves out one of ten at random for each image; the LoRA starts as in Flow-GRPO above.
    "DiffusionNFT": _with(
        _FLOW_GRPO,
        rollout={"prompts_per_iteration": 6, "cfg": 1.0, "tail_order": 2},
        loss={"surrogate": "nft", "kl_weight": 0.0001},
        optimizer={"updates": 1, "ema_decay": 0.9},
    ),
}


def preset(name: str) -> TrainConfig:
    """The settings of a preset. Raises ValueError with one sentence for a name that there isn't."""
    if name not in PRESETS:
        raise ValueError(f"There is no preset '{name}': choose {', '.join(PRESETS)}.")
    return TrainConfig.from_dict(PRESETS[name])
