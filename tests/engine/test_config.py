"""Settings that can't work are named in one sentence."""

import pytest

from mixgrpo_engine.config import TrainConfig

NAN = float("nan")


@pytest.mark.parametrize(
    "groups,sentence",
    [
        (dict(rollout={"steps": 1}), "steps is 1"),
        (dict(rollout={"transition": "x"}), "transition is 'x'"),
        (dict(rollout={"eta": 0.0}), "eta is 0"),
        (dict(rollout={"eta": NAN}), "eta is nan"),
        (dict(rollout={"eta": 2.0, "transition": "cps"}), "with cps it must be below 2"),
        (dict(rollout={"group_size": 1}), "group_size is 1"),
        (dict(rollout={"cfg": -1.0}), "cfg is -1"),
        (dict(rollout={"cfg": NAN}), "cfg is nan"),
        (dict(rollout={"shift": -0.5}), "shift is -0.5"),
        (dict(rollout={"shift": float("inf")}), "shift is inf"),
        (dict(rollout={"batch_size": -1}), "batch sizes must be 0"),
        (dict(optimizer={"batch_size": -1}), "batch sizes must be 0"),
        (dict(rollout={"prompts_per_iteration": 0}), "prompts_per_iteration must be at least 1"),
        (dict(rollout={"flash_ratio": 0.0}), "flash_ratio is 0"),
        (dict(rollout={"flash_ratio": 1.1}), "flash_ratio is 1.1"),
        (dict(rollout={"tail_order": 4}), "tail_order is 4"),
        (dict(rollout={"tail_variant": "x"}), "tail_variant is 'x'"),
        (dict(window={"strategy": "x"}), "window strategy is 'x'"),
        (dict(window={"size": 6}), "window size is 6 with 6 steps: it must be 1 to 5"),
        (dict(window={"size": -1}), "window size is -1"),
        (dict(window={"trained_share": 0.0}), "trained_share is 0"),
        (dict(window={"trained_share": 1.5}), "trained_share is 1.5"),
        (dict(window={"interval": 0}), "window interval must be at least 1"),
        (dict(window={"stride": 0}), "window stride must be at least 1"),
        (dict(loss={"surrogate": "x"}), "surrogate is 'x'"),
        (dict(loss={"clip_range": 0.0}), "clip_range must be above 0"),
        (dict(loss={"kl_mask_threshold": 0.0}), "kl_mask_threshold must be above 0"),
        (dict(loss={"kl_weight": -0.1}), "kl_weight must be 0 or more"),
        (dict(loss={"kl_space": "x"}), "kl_space is 'x'"),
        (dict(loss={"advantage_clip": 0.0}), "advantage_clip must be above 0"),
        (dict(loss={"mix": "x"}), "mix is 'x'"),
        (dict(optimizer={"max_grad_norm": 0.0}), "max_grad_norm must be above 0"),
        (dict(optimizer={"learning_rate": NAN}), "learning_rate must be above 0"),
        (dict(optimizer={"schedule": "x"}), "learning rate schedule is 'x'"),
        (dict(optimizer={"ema_decay": 1.0}), "ema_decay is 1"),
        (dict(optimizer={"ema_decay": -0.1}), "ema_decay is -0.1"),
        (dict(optimizer={"updates": 13}), "updates is 13 with 12 images"),
        (dict(optimizer={"updates": 0}), "updates is 0"),
        (dict(adapter={"rank": 0}), "LoRA rank must be at least 1"),
        (dict(run={"iterations": 0}), "iterations must be at least 1"),
        (dict(run={"evaluate_every": -1}), "evaluate_every must be 0"),
        (dict(run={"evaluate_images": 0}), "evaluate_images must be at least 1"),
        (dict(run={"checkpoint_every": 0}), "checkpoint_every must be at least 1"),
        (dict(run={"mixed_precision": "x"}), "mixed_precision: choose no, bf16, fp16"),
    ],
)
def test_bad_settings_are_named(toy, tmp_path, groups, sentence):
    with pytest.raises(ValueError, match=sentence):
        toy.make(tmp_path / "run", toy.config(**groups))


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="rollout.stepz"):
        TrainConfig.from_dict({"rollout": {"stepz": 3}})
    with pytest.raises(ValueError, match="group of settings 'rollouts': use rollout, window"):
        TrainConfig.from_dict({"rollouts": {}})


def test_settings_survive_a_round_trip(toy):
    changed = toy.config(rollout={"eta": 0.3}, run={"seed": 5})
    assert TrainConfig.from_dict(changed.as_dict()) == changed != TrainConfig()
    assert TrainConfig.from_dict({}) == TrainConfig()
    toy.config(window={"size": 0}, rollout={"batch_size": 3}, optimizer={"updates": 12}).validate()
