"""MixGRPO_HybridGuider on the embedded model: which of the two models does which step."""

import pytest
import torch

from tests.nodes.sampling import sampling_graph

STEPS = 10
PROMPT = "two blue squares on a white background"


@pytest.fixture(scope="module")
def tuned(graph):
    """A patched clone, as a LoRA loader gives it: both MODELs share one set of weights."""
    return patched(graph.model)


@pytest.fixture(scope="module")
def other(room):
    """A tuned MODEL with weights of its own, as a checkpoint loader gives it."""
    return patched(room("nodes.tiny.tiny_model").load_model())


def patched(model):
    clone = model.clone()
    name = "diffusion_model.joint_blocks.1.x_block.attn.proj.weight"
    shape = model.model.state_dict()[name].shape
    change = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert clone.add_patches({name: ("diff", (change,))}, 1.0) == [name]
    return clone


def hybrid(graph, sampling, tuned, share, cfg=1.0, base=None):
    node = sampling.MixGRPOHybridGuider
    return node.execute(tuned, base or graph.model, graph.positive, graph.negative, cfg, share).result[0]


def counted(model, name, calls):
    """A clone whose calls are noted as (name, sigma)."""

    def wrapper(apply_model, args):
        calls.append((name, float(args["timestep"].max())))
        return apply_model(args["input"], args["timestep"], **args["c"])

    clone = model.clone()
    clone.set_model_unet_function_wrapper(wrapper)
    return clone


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_all_steps_tuned_or_none(graph, sampling, sigmas, tuned, cfg):
    euler = sampling_graph.stock_sampler("euler")
    with_tuned = graph.sample(euler, sigmas, seed=1, model=tuned, cfg=cfg)
    with_base = graph.sample(euler, sigmas, seed=1, cfg=cfg)
    assert (with_tuned - with_base).abs().max() > 0.1
    got = graph.sample(euler, sigmas, seed=1, guider=hybrid(graph, sampling, tuned, 1.0, cfg))
    assert torch.equal(got, with_tuned)
    got = graph.sample(euler, sigmas, seed=1, guider=hybrid(graph, sampling, tuned, 0.0, cfg))
    assert torch.equal(got, with_base)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("source", ["tuned", "other"])
def test_it_is_the_tuned_model_up_to_the_switch_and_the_base_after(graph, sampling, sigmas, request, source, cfg):
    euler, tuned = sampling_graph.stock_sampler("euler"), request.getfixturevalue(source)
    guider = hybrid(graph, sampling, tuned, 0.8, cfg)
    got = graph.sample(euler, sigmas, seed=1, guider=guider)
    first = graph.sample(euler, sigmas[:9], seed=1, model=tuned, cfg=cfg)
    expected = graph.sample(euler, sigmas[8:], seed=1, latents=first, new_noise=False, cfg=cfg)
    assert (got - expected).abs().max() < 1e-3
    unlike = graph.sample(euler, sigmas, seed=1, model=tuned, cfg=cfg)
    assert (got - unlike).abs().max() > 0.01
    # Once more with the same guider: nothing of the first sampling is left in it.
    assert torch.equal(graph.sample(euler, sigmas, seed=1, guider=guider), got)


@pytest.mark.parametrize(("share", "first"), [(0.8, 8), (0.75, 8), (0.5, 5), (0.04, 0), (0.1, 1), (0.96, 10)])
def test_the_calls_of_each_model(graph, sampling, sigmas, tuned, share, first):
    calls = []
    pair = counted(tuned, "tuned", calls), counted(graph.model, "base", calls)
    guider = hybrid(graph, sampling, pair[0], share, base=pair[1])
    graph.sample(sampling_graph.stock_sampler("euler"), sigmas, seed=1, guider=guider)
    assert [name for name, _ in calls] == ["tuned"] * first + ["base"] * (STEPS - first)
    assert torch.allclose(torch.tensor([sigma for _, sigma in calls]), sigmas[:-1])


@pytest.mark.parametrize("name", ["heun", "dpm_2", "dpmpp_2m", "euler_cfg_pp", "uni_pc"])
def test_it_goes_with_other_samplers(graph, sampling, sigmas, tuned, name):
    """With two equal models, any sampler gives what it gives with that one model."""
    sampler = sampling_graph.stock_sampler(name)
    alone = graph.sample(sampler, sigmas, seed=1, cfg=2.0)
    twice = hybrid(graph, sampling, graph.model.clone(), 0.8, cfg=2.0)
    assert (graph.sample(sampler, sigmas, seed=1, guider=twice) - alone).abs().max() < 1e-5
    mixed = graph.sample(sampler, sigmas, seed=1, guider=hybrid(graph, sampling, tuned, 0.8, cfg=2.0))
    assert torch.isfinite(mixed).all() and (mixed - alone).abs().max() > 0.01


def test_it_goes_with_the_window_sampler(graph, sampling, sigmas, tuned):
    calls = []
    pair = counted(tuned, "tuned", calls), counted(graph.model, "base", calls)
    sampler = sampling.MixGRPOSampler.execute(6, 3, "flow_sde", 0.7, 2, "midpoint").result[0]
    graph.sample(sampler, sigmas, seed=1, batch=2, guider=hybrid(graph, sampling, pair[0], 0.8, base=pair[1]))
    assert [name for name, _ in calls] == ["tuned"] * 8 + ["base"] * 2


def test_the_models_are_left_as_they_were(graph, sampling, sigmas, tuned):
    euler = sampling_graph.stock_sampler("euler")
    before = [graph.sample(euler, sigmas, seed=1, model=model) for model in (graph.model, tuned)]
    graph.sample(euler, sigmas, seed=1, guider=hybrid(graph, sampling, tuned, 0.5))
    after = [graph.sample(euler, sigmas, seed=1, model=model) for model in (graph.model, tuned)]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_an_error_in_the_sampling_leaves_a_guider_that_works(graph, sampling, sigmas, tuned):
    guider = hybrid(graph, sampling, tuned, 0.5)
    too_late = sampling.MixGRPOSampler.execute(9, 4, "flow_sde", 0.7, 1, "midpoint").result[0]
    with pytest.raises(ValueError, match="doesn't fit"):
        graph.sample(too_late, sigmas, seed=1, guider=guider)
    euler = sampling_graph.stock_sampler("euler")
    fresh = graph.sample(euler, sigmas, seed=1, guider=hybrid(graph, sampling, tuned, 0.5))
    assert torch.equal(graph.sample(euler, sigmas, seed=1, guider=guider), fresh)


def test_models_with_different_latents_are_refused(graph, sampling, tuned):
    from tests.nodes import tiny_models

    with pytest.raises(ValueError, match="different latents"):
        sampling.MixGRPOHybridGuider.execute(tuned, tiny_models.flux(), graph.positive, graph.negative, 1.0, 0.8)
