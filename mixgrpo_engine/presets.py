"""Published settings by name: what each differs in from the defaults of config.py, which are MixGRPO's for FLUX.1."""

from __future__ import annotations

from .config import TrainConfig

# The number of prompts is that of one GPU in the papers, which run on 24 to 32 of them.
_SD35_LORA: dict[str, dict] = {
    "rollout": {"steps": 10, "shift": 3.0, "group_size": 24, "prompts_per_iteration": 3, "cfg": 4.5},
    "optimizer": {"learning_rate": 3e-4, "ema_decay": 0.9},
}
# Flow-GRPO (arXiv 2505.05470): every image starts from its own noise, and the KL is the exact one.
_FLOW_GRPO: dict[str, dict] = {
    "rollout": {**_SD35_LORA["rollout"], "shared_noise": False},
    "optimizer": _SD35_LORA["optimizer"],
    "loss": {"kl_weight": 0.04, "kl_space": "mean"},
}

PRESETS: dict[str, dict[str, dict]] = {
    # arXiv 2507.21802 on FLUX.1 [dev]; its learning rate of 1e-5 belongs to a training of all weights.
    "MixGRPO": {"rollout": {"shift": 3.0}},
    # The same paper on SD3.5 M with a LoRA.
    "MixGRPO SD3.5": {**_SD35_LORA, "window": {"interval": 150}, "loss": {"kl_weight": 0.001}},
    # Few and larger steps after the window, by a second-order solver.
    "MixGRPO-Flash": {
        "rollout": {"shift": 3.0, "flash_ratio": 0.4, "tail_order": 2},
        "window": {"interval": 20},
    },
    # The cheapest: the window stays at the first steps.
    "MixGRPO-Flash*": {
        "rollout": {"shift": 3.0, "flash_ratio": 0.2, "tail_order": 2},
        "window": {"strategy": "frozen"},
    },
    # arXiv 2505.07818: every step stochastic, a random 60% of them trained.
    "DanceGRPO": {
        "rollout": {"shift": 3.0, "transition": "dance_sde", "eta": 0.3},
        "window": {"size": 0, "trained_share": 0.6},
    },
    # Every step stochastic and trained.
    "Flow-GRPO": {**_FLOW_GRPO, "window": {"size": 0}},
    # Two steps at a random place.
    "Flow-GRPO-Fast": {**_FLOW_GRPO, "window": {"size": 2, "strategy": "random"}},
}


def preset(name: str) -> TrainConfig:
    """The settings of a preset. Raises ValueError with one sentence for a name that there isn't."""
    if name not in PRESETS:
        raise ValueError(f"There is no preset '{name}': choose {', '.join(PRESETS)}.")
    return TrainConfig.from_dict(PRESETS[name])
