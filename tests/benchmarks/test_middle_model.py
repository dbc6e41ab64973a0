"""The random FLUX of middle size: its iterations learn, and every image gets a reward of its own."""

import dataclasses

import torch

from benchmarks import cost, middle_model, variants


def test_an_iteration_of_small_images(comfy, tmp_path):
    subject = middle_model.load()
    assert round(sum(each.numel() for each in subject.model.model.parameters()) / 1e6) == 9, (
        "million, as the report says"
    )
    small = dataclasses.replace(
        subject.settings,
        rollout=dataclasses.replace(subject.settings.rollout, steps=6, group_size=4),
        run=dataclasses.replace(subject.settings.run, width=32, height=32),
    )
    measured = cost.Measured(subject, variants.MIX_GRPO, cost.settings(variants.MIX_GRPO, small, 1), tmp_path / "run")
    sample = measured.sample()
    assert sample["forwards"] == {"rollout": (1 + 5 * 4) / 4, "update": 4}  # each update has one image
    event = measured.trainer.events[-1]
    assert event.updates == 4 and event.reward_std > 0.001
    pictures = measured.trainer.policy.decode(torch.randn(2, *measured.trainer.policy.noise_shape))
    assert pictures.isfinite().all() and 0.3 < pictures.mean() < 0.7
