"""Settings that can't work are named in one sentence."""

import pytest

from mixgrpo_engine.config import SETTINGS, TrainConfig
from mixgrpo_engine.settings import KINDS

NAN = float("nan")
OWN = {"shared_noise": False}


@pytest.mark.parametrize(
    "groups,sentence",
    [
        (dict(rollout={"spacing": "x"}), "spacing is 'x': choose uniform, diffusers"),
        (dict(loss={"spread": "x"}), "advantage_spread is 'x': choose group, iteration"),
        (dict(rollout={"steps": 1}), "steps is 1: it must be 2 to 1000"),
        (dict(rollout={"transition": "x"}), "transition is 'x': choose flow_sde, dance_sde, cps"),
        (dict(rollout={"eta": 0.0}), "eta is 0.0: it must be 0.01 to 4"),
        (dict(rollout={"eta": NAN}), "eta is nan"),
        (dict(rollout={"eta": 2.0, "transition": "cps"}), "with cps it must be below 2"),
        (dict(rollout={"group_size": 1}), "group_size is 1"),
        (dict(rollout={"cfg": -1.0}), "cfg is -1"),
        (dict(rollout={"cfg": NAN}), "cfg is nan"),
        (dict(rollout={"shift": -0.5}), "shift is -0.5"),
        (dict(rollout={"shift": float("inf")}), "shift is inf"),
        (dict(rollout={"batch_size": -1}), "rollout_batch_size is -1: it must be 0 to 1024"),
        (dict(optimizer={"batch_size": -1}), "update_batch_size is -1: it must be 0 to 1024"),
        (dict(rollout={"prompts_per_iteration": 0}), "prompts_per_iteration is 0: it must be 1 to 256"),
        (dict(rollout={"flash_ratio": 0.0}), "flash_ratio is 0"),
        (dict(rollout={"flash_ratio": 1.1}), "flash_ratio is 1.1"),
        (dict(rollout={"tail_order": 4}), "tail_order is 4: it must be 1 to 3"),
        (dict(rollout={"tail_variant": "x"}), "tail_variant is 'x'"),
        (dict(window={"strategy": "x"}), "window_strategy is 'x'"),
        (dict(window={"size": 6}), "window_size is 6 with 6 steps: it must be 1 to 5"),
        (dict(window={"size": -1}), "window_size is -1"),
        (dict(window={"trained_share": 0.0}), "trained_share is 0"),
        (dict(window={"trained_share": 1.5}), "trained_share is 1.5"),
        (dict(window={"interval": 0}), "window_interval is 0: it must be 1 to 100000"),
        (dict(window={"stride": 0}), "window_stride is 0"),
        (dict(loss={"surrogate": "x"}), "surrogate is 'x'"),
        (dict(loss={"clip_range": 0.0}), "clip_range is 0.0: it must be 1e-08 to 1"),
        (dict(loss={"kl_mask_threshold": 0.0}), "kl_mask_threshold is 0"),
        (dict(loss={"kl_weight": -0.1}), "kl_weight is -0.1"),
        (dict(loss={"kl_space": "x"}), "kl_space is 'x': choose velocity, mean, flow_grpo"),
        (dict(loss={"surrogate": "nft"}), "shared_noise lets a group's images start alike: with the surrogate nft"),
        (dict(rollout=OWN, loss={"surrogate": "nft", "kl_weight": 0.1, "kl_space": "mean"}), "kl_space is mean"),
        (dict(rollout=OWN, loss={"surrogate": "nft", "step_weights": "noise"}), "step_weights is noise: with the sur"),
        (dict(loss={"nft_beta": 0.0}), "nft_beta is 0"),
        (dict(loss={"old_decay": 1.0}), "old_decay is 1"),
        (dict(loss={"advantage_clip": 0.0}), "advantage_clip is 0"),
        (dict(loss={"mix": "x"}), "reward_mix is 'x'"),
        (dict(optimizer={"max_grad_norm": 0.0}), "max_grad_norm is 0"),
        (dict(optimizer={"learning_rate": NAN}), "learning_rate is nan"),
        (dict(optimizer={"schedule": "x"}), "learning_rate_schedule is 'x'"),
        (dict(optimizer={"ema_decay": 1.0}), "ema_decay is 1.0: it must be 0 to 0.9999"),
        (dict(optimizer={"ema_decay": -0.1}), "ema_decay is -0.1"),
        (dict(optimizer={"updates": 13}), "updates is 13 with 12 images"),
        (dict(optimizer={"updates": 0}), "updates is 0"),
        (dict(adapter={"rank": 0}), "rank is 0: it must be 1 to 1024"),
        (dict(run={"iterations": 0}), "iterations is 0"),
        (dict(run={"iterations": 2.7}), "iterations is 2.7: it must be a whole number"),
        (dict(run={"seed": -1}), "seed is -1: it must be 0 to 9007199254740991"),
        (dict(run={"width": 100}), "width is 100: it must be a multiple of 16"),
        (dict(run={"gradient_checkpointing": "false"}), "gradient_checkpointing is 'false': it must be true or false"),
        (dict(run={"evaluate_every": -1}), "evaluate_every is -1"),
        (dict(run={"evaluate_images": 0}), "evaluate_images is 0"),
        (dict(run={"checkpoint_every": 0}), "checkpoint_every is 0"),
        (dict(run={"mixed_precision": "x"}), "mixed_precision is 'x': choose no, bf16, fp16"),
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


def test_every_setting_says_what_it_is_for():
    labels = [each.label for each in SETTINGS]
    assert len(labels) == len(set(labels))
    for each in SETTINGS:
        assert each.tooltip.endswith(".") and type(each.default) in KINDS, each.label
        assert each.check(each.default) == each.default
        bounded = each.minimum is not None and each.maximum is not None
        assert bounded or each.kind in (bool, str), f"{each.label} has no bounds"
        assert each.step or each.kind is not float, f"{each.label} has no step: browsers then show 0 for 1e-4"


def test_released_widgets_keep_their_places():
    """Saved workflows hold values by place: what is new comes after these, and none of them goes."""
    released = """
        steps shift transition eta cfg group_size prompts_per_iteration shared_noise flash_ratio tail_order tail_variant
        window_strategy window_size trained_share window_stride window_interval window_max_start window_wrap reward_mix
        advantage_clip surrogate clip_range kl_mask_threshold kl_weight kl_space learning_rate learning_rate_schedule
        weight_decay max_grad_norm updates ema_decay rollout_batch_size update_batch_size
        spacing advantage_spread lora_alpha lora_targets
    """.split()  # noqa: SIM905
    places = {each.place: each.label for each in SETTINGS if each.place is not None}
    assert list(places) and sorted(places) == list(range(1, len(places) + 1))
    assert [places[number] for number in range(1, len(released) + 1)] == released


def test_a_whole_number_is_a_number_and_nothing_else_is_turned_into_anything():
    by_label = {each.label: each for each in SETTINGS}
    assert type(by_label["eta"].check(1)) is float
    wrong = (("steps", True), ("steps", 8.0), ("steps", "8"), ("eta", "1"), ("eta", None), ("lora_targets", 1))
    for label, value in wrong:
        with pytest.raises(ValueError, match=f"^{label} is .*: it must be a"):
            by_label[label].check(value)
    with pytest.raises(ValueError, match="settings.rollout.steps is 1:"):
        by_label["steps"].check(1, "settings.rollout.steps")
    with pytest.raises(ValueError) as failure:
        by_label["transition"].check("x" * 10_000)
    assert len(str(failure.value)) < 200
