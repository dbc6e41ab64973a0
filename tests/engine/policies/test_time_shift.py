"""The time shift of a scheduler's settings against diffusers' own scheduler."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from mixgrpo_engine.policies.time_shift import image_tokens, time_shift
from mixgrpo_engine.schedule import flow_sigmas


@pytest.mark.parametrize(
    "settings",
    [
        {"shift": 3.0},
        {"shift": 3.0, "use_dynamic_shifting": True},
        {"use_dynamic_shifting": True, "time_shift_type": "linear", "base_shift": 0.7, "max_shift": 2.0},
        {"use_dynamic_shifting": True, "base_image_seq_len": 64, "max_image_seq_len": 1024},
    ],
)
@pytest.mark.parametrize("width, height", [(512, 512), (1024, 768)])
def test_sigmas_of_the_shift_are_diffusers_own(settings, width, height):
    scheduler, tokens = FlowMatchEulerDiscreteScheduler(**settings), image_tokens(width, height)
    config = scheduler.config
    mu = calculate_shift(
        tokens, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
    )
    scheduler.set_timesteps(7, sigmas=np.linspace(1, 1 / 7, 7), mu=mu if config.use_dynamic_shifting else None)
    assert torch.allclose(flow_sigmas(7, time_shift(settings, tokens)), scheduler.sigmas, atol=1e-6)
    # A folder's file may leave settings out, the scheduler's own has all of them.
    assert time_shift(settings, tokens) == time_shift(config, tokens)


def test_an_image_has_a_token_for_16_pixels_a_side():
    assert image_tokens(1024, 512) == 64 * 32
