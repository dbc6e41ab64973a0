"""Settings that can't work are named in one sentence."""

import pytest

from mixgrpo_engine.config import TrainConfig


@pytest.mark.parametrize(
    "groups,sentence",
    [
        (dict(rollout={"steps": 1}), "steps is 1"),
        (dict(rollout={"eta": 0.0}), "eta is 0"),
        (dict(window={"size": 6}), "window size is 6 with 6 steps"),
        (dict(rollout={"group_size": 1}), "group_size is 1"),
        (dict(optimizer={"updates": 13}), "updates is 13 with 12 images"),
        (dict(rollout={"transition": "x"}), "transition is 'x'"),
        (dict(rollout={"tail_variant": "x"}), "tail_variant is 'x'"),
        (dict(window={"trained_share": 0.0}), "trained_share is 0"),
        (dict(loss={"surrogate": "x"}), "surrogate is 'x'"),
        (dict(loss={"kl_space": "x"}), "kl_space is 'x'"),
        (dict(loss={"kl_mask_threshold": 0.0}), "kl_mask_threshold must be above 0"),
        (dict(optimizer={"ema_decay": 1.0}), "ema_decay is 1"),
    ],
)
def test_bad_settings_are_named(toy, tmp_path, groups, sentence):
    with pytest.raises(ValueError, match=sentence):
        toy.make(tmp_path / "run", toy.config(**groups))


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="rollout.stepz"):
        TrainConfig.from_dict({"rollout": {"stepz": 3}})
