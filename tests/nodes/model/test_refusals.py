"""What a policy can't do is said in one sentence, before anything is trained."""

import pytest
import torch

from tests.nodes import tiny_models


def test_a_noise_predicting_model_is_refused_by_class_and_type(comfy, policy_of):
    with pytest.raises(ValueError, match="is a BaseModel of type EPS, which isn't flow matching"):
        policy_of(tiny_models.sd15())


def test_a_flow_model_made_to_predict_images_is_refused(comfy, build, policy_of):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (model,) = ModelSamplingDiscrete().patch(build(), "x0", False)
    with pytest.raises(ValueError, match="isn't flow matching"):
        policy_of(model)


def test_another_models_vae_is_refused(comfy, policy_of):
    with pytest.raises(ValueError, match="VAE has 4 latent channels and the MODEL 16"):
        policy_of(tiny_models.sd3(), vae=tiny_models.vae(channels=4))


@pytest.mark.parametrize("size", [{"width": 100}, {"height": 0}])
def test_a_size_off_the_latent_grid_is_refused(comfy, policy_of, size):
    ((name, value),) = size.items()
    with pytest.raises(ValueError, match=f"{name} is {value}: it must be a multiple of 8"):
        policy_of(tiny_models.sd3(), **size)


def test_a_size_that_is_not_square_works(build, policy_of):
    policy = policy_of(build(), width=96, height=64)
    noise = policy.noise([1])
    assert noise.shape == (1, 16, 8, 12)
    with torch.no_grad():
        assert policy.module(noise, 0.5, policy.condition(["red"])).shape == noise.shape
    assert policy.decode(noise).shape == (1, 64, 96, 3)


def test_targets_that_match_nothing_are_refused_with_examples(comfy, policy_of):
    with pytest.raises(ValueError, match=r"targets 'to_q'.*joint_blocks\.0"):
        policy_of(tiny_models.sd3(), targets="to_q")


def test_targets_and_exclude_choose_layers(comfy, policy_of):
    policy = policy_of(tiny_models.sd3(), targets="attn, mlp", exclude="context_block, attn2")
    assert policy.adapted_layers
    for name in policy.adapted_layers:
        assert ("attn" in name or "mlp" in name) and "context_block" not in name and "attn2" not in name


def test_prompts_with_regions_or_schedules_are_refused(build, policy_of, encoded):
    tokens, extras = encoded["red"][0]
    encoded.conditionings["masked"] = [[tokens, {**extras, "mask": torch.ones(1, 16, 16)}]]
    encoded.conditionings["scheduled"] = encoded["red"] + encoded["green"]
    policy = policy_of(build())
    with pytest.raises(ValueError, match="has 'mask'"):
        policy.condition(["masked"])
    with pytest.raises(ValueError, match="has 2 conditionings, and training takes one"):
        policy.condition(["scheduled"])
