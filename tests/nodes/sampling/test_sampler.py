"""MixGRPO_Sampler and MixGRPO_Sigmas on the embedded model, through the nodes and the sampling of ComfyUI itself."""

import pytest
import torch

from tests.nodes.model import stock
from tests.nodes.sampling import sampling_graph

STEPS = 10
PROMPT = "a red circle to the left of a blue square on a white background"


def sampler(sampling, start=2, size=3, transition="flow_sde", eta=0.7, order=1, variant="midpoint"):
    return sampling.MixGRPOSampler.execute(start, size, transition, eta, order, variant).result[0]


def quiet_sampler(room, window, **options):
    """One that hardly adds noise: less than the node's eta allows."""
    return room("nodes.sampling.sampler").rollout_sampler(window, eta=1e-6, **options)


# --- the sampler --------------------------------------------------------------------------------------------------


def test_without_a_window_it_is_ksampler_euler(graph, sampling, sigmas):
    got = graph.sample(sampler(sampling, size=0), sigmas, seed=5, batch=2)
    euler = graph.sample(sampling_graph.stock_sampler("euler"), sigmas, seed=5, batch=2)
    assert (got - euler).abs().max() < 1e-4
    by_node = graph.ksampler(STEPS, seed=5, batch=2)
    assert (got - by_node).abs().max() < 1e-4


@pytest.mark.parametrize("transition", ["flow_sde", "dance_sde", "cps"])
def test_with_vanishing_noise_it_becomes_euler(room, graph, sampling, sigmas, transition):
    euler = graph.sample(sampling_graph.stock_sampler("euler"), sigmas, seed=5)
    quiet = graph.sample(quiet_sampler(room, range(2, 5), transition=transition), sigmas, seed=5)
    noisy = graph.sample(sampler(sampling, transition=transition), sigmas, seed=5)
    assert (quiet - euler).abs().max() < 1e-3
    assert (noisy - euler).abs().mean() > 0.05


@pytest.mark.parametrize(
    ("transition", "order", "variant"),
    [("flow_sde", 1, "midpoint"), ("cps", 2, "midpoint"), ("dance_sde", 2, "heun"), ("flow_sde", 3, "midpoint")],
)
def test_the_latents_are_those_of_the_engines_rollout(room, graph, sampling, sigmas, transition, order, variant):
    got = graph.sample(sampler(sampling, 2, 3, transition, 0.5, order, variant), sigmas, seed=9, batch=2)
    noise = graph.noise(seed=9, batch=2)
    generators = room("nodes.sampling.sampler").row_generators(noise, 9)
    tail = room("mixgrpo_engine.solvers").DPMSolverPP(order, variant) if order > 1 else None
    trajectory = room("mixgrpo_engine.rollout").rollout(
        graph.velocity, noise, sigmas, range(2, 5), transition=transition, eta=0.5, group_size=1, tail=tail,
        generator=generators,
    )  # fmt: skip
    assert (got - trajectory.latents).abs().max() < 1e-3
    assert trajectory.latents.std() > 0.1


def test_each_order_and_variant_is_another_sampler(graph, sampling, sigmas):
    variants = [(1, "midpoint"), (2, "midpoint"), (2, "heun"), (3, "midpoint")]
    results = [graph.sample(sampler(sampling, 1, 2, order=o, variant=v), sigmas, seed=1) for o, v in variants]
    for place, one in enumerate(results):
        assert all((one - other).abs().max() > 1e-4 for other in results[place + 1 :])


def test_same_seed_same_image_whatever_the_batch(graph, sampling, sigmas):
    four = graph.sample(sampler(sampling), sigmas, seed=3, batch=4)
    one = graph.sample(sampler(sampling), sigmas, seed=3, batch=1)
    assert (four[:1] - one).abs().max() < 1e-4
    assert all((four[0] - four[row]).abs().max() > 0.1 for row in (1, 2, 3))
    again = graph.sample(sampler(sampling), sigmas, seed=3, batch=4)
    assert torch.equal(four, again)
    other = graph.sample(sampler(sampling), sigmas, seed=4, batch=1)
    assert (one - other).abs().max() > 0.1


def test_an_image_taken_out_of_its_batch_is_the_same_image(graph, sampling, sigmas):
    """ComfyUI's LatentFromBatch keeps the place in the batch, and the noise with it."""
    four = graph.sample(sampler(sampling), sigmas, seed=3, batch=4)
    third = graph.sample(sampler(sampling), sigmas, seed=3, batch=1, batch_index=[2])
    assert (four[2:3] - third).abs().max() < 1e-4


def test_images_with_one_initial_noise_still_differ(graph, sampling, sigmas):
    same = graph.sample(sampler(sampling), sigmas, seed=3, batch=2, batch_index=[1, 1])
    assert (same[0] - same[1]).abs().max() > 0.1


def test_the_window_noise_is_another_one_for_each_step_and_seed(room):
    noise = torch.zeros(1, 16, 8, 8)
    draw = room("mixgrpo_engine.transitions").draw
    seeded = room("nodes.sampling.sampler").row_generators
    generators = seeded(noise, 1)
    first, second = draw(noise, 1.0, generators), draw(noise, 1.0, generators)
    assert not torch.equal(first, second)
    assert torch.equal(first, draw(noise, 1.0, seeded(noise, 1)))
    assert not torch.equal(first, draw(noise, 1.0, seeded(noise, 2)))
    assert abs(float(torch.cat([first, second]).std()) - 1) < 0.05


def test_every_step_is_reported(graph, sampling, sigmas):
    seen = []
    graph.guide(graph.model).sample(
        graph.noise(0, 2), torch.zeros(2, 16, 8, 8), sampler(sampling), sigmas, disable_pbar=True, seed=0,
        callback=lambda step, denoised, x, total: seen.append((step, total, x.shape, denoised.shape)),
    )  # fmt: skip
    assert seen == [(step, STEPS, (2, 16, 8, 8), (2, 16, 8, 8)) for step in range(STEPS)]


def test_a_schedule_in_two_parts_runs(graph, sampling, sigmas):
    """SplitSigmas: the first part by this sampler, the second one by euler without new noise."""
    high = graph.sample(sampler(sampling), sigmas[:8], seed=2)
    low = graph.sample(sampling_graph.stock_sampler("euler"), sigmas[7:], seed=2, latents=high, new_noise=False)
    whole = graph.sample(sampler(sampling), sigmas, seed=2)
    assert (low - whole).abs().max() < 1e-3


def test_a_window_that_does_not_fit_is_one_sentence(graph, sampling, sigmas):
    with pytest.raises(ValueError, match=r"window 7\.\.10 doesn't fit 10 steps"):
        graph.sample(sampler(sampling, start=7), sigmas, seed=0)


@pytest.mark.parametrize(
    ("change", "words"), [({"transition": "cps", "eta": 2.0}, "below 2"), ({"eta": 0.0}, "0.01 to 4")]
)
def test_settings_that_cannot_work_are_one_sentence(sampling, change, words):
    with pytest.raises(ValueError, match=words):
        sampler(sampling, **change)


# --- the sigmas ---------------------------------------------------------------------------------------------------


def test_the_models_own_sigmas_are_those_of_stock_sampling(comfy, graph, sigmas):
    simple = comfy.samplers.calculate_sigmas(graph.model.get_model_object("model_sampling"), "simple", STEPS)
    assert sigmas[0] == 1 and sigmas[-1] == 0
    assert torch.allclose(sigmas, simple, atol=1e-6)


def test_a_given_shift_and_a_patched_one(room, graph, sampling):
    flow_sigmas = room("mixgrpo_engine.schedule").flow_sigmas
    given = sampling.MixGRPOSigmas.execute(graph.model, 7, 5.0, 1.0, 0, 4).result[0]
    assert torch.allclose(given, flow_sigmas(7, 5.0))
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    patched = ModelSamplingSD3().patch(graph.model, shift=2.0)[0]
    own = sampling.MixGRPOSigmas.execute(patched, 7, 0.0, 1.0, 0, 4).result[0]
    assert torch.allclose(own, flow_sigmas(7, 2.0), atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_diffusers_spacing_is_comfyuis_scheduler_normal(comfy, graph, sampling, shift):
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    model = ModelSamplingSD3().patch(graph.model, shift=shift)[0] if shift else graph.model
    stock = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 10)
    for given in (shift, 0.0):
        got = sampling.MixGRPOSigmas.execute(model, 10, given, 1.0, 0, 4, "diffusers").result[0]
        assert torch.allclose(got, stock, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 4.0])
def test_flash_is_the_engines(room, graph, sampling, shift):
    schedule = room("mixgrpo_engine.schedule")
    got = sampling.MixGRPOSigmas.execute(graph.model, 25, shift, 0.4, 3, 4).result[0]
    used = shift or 3.0  # the embedded model's own
    expected = schedule.flash_sigmas(schedule.flow_sigmas(25, used), range(3, 7), 0.4, used)
    assert len(got) - 1 == 3 + 4 + 7 and got[-1] == 0
    assert torch.allclose(got, expected, atol=1e-6)


def test_flash_draws_about_the_same_picture_in_fewer_steps(room, graph, sampling):
    """Without its noise, so that only the schedule and the solver differ."""
    full, flash = (sampling.MixGRPOSigmas.execute(graph.model, 25, 0.0, r, 0, 4).result[0] for r in (1.0, 0.4))
    quiet = quiet_sampler(room, range(4), tail_order=2)
    fine, coarse = (graph.images(graph.sample(quiet, s, seed=11)) for s in (full, flash))
    assert len(flash) < len(full) - 10
    assert (fine - coarse).abs().mean() < 0.05


def test_a_window_beyond_the_steps_is_one_sentence(graph, sampling):
    with pytest.raises(ValueError, match=r"window 8\.\.12 doesn't fit 10 steps"):
        sampling.MixGRPOSigmas.execute(graph.model, 10, 0.0, 0.4, 8, 4)


# --- what isn't flow matching -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def discrete(graph):
    """The embedded model told to be a noise-predicting one."""
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    return ModelSamplingDiscrete().patch(graph.model, "eps", False)[0]


def test_other_models_are_refused(graph, sampling, sigmas, discrete):
    with pytest.raises(ValueError, match="isn't flow matching"):
        sampling.MixGRPOSigmas.execute(discrete, 10, 0.0, 1.0, 0, 4)
    with pytest.raises(ValueError, match="isn't flow matching"):
        graph.sample(sampler(sampling), sigmas, seed=0, model=discrete)
    for pair in ((discrete, graph.model), (graph.model, discrete)):
        with pytest.raises(ValueError, match="isn't flow matching"):
            sampling.MixGRPOHybridGuider.execute(*pair, graph.positive, graph.negative, 1.0, 0.8)


def test_the_schemas_explain_themselves(sampling):
    for node in vars(sampling).values():
        schema = node.define_schema()
        assert schema.category == "MixGRPO/sampling" and schema.description
        assert all(part.tooltip for part in [*schema.inputs, *schema.outputs])


def test_stock_helper_compares_like_with_like(graph):
    """The graph's own sampling path is the one that the policy tests use."""
    noise = graph.noise(5, 1)
    latents, _ = stock.sample(graph.model, noise, graph.positive, graph.negative, steps=STEPS)
    assert (latents - graph.ksampler(STEPS, seed=5, batch=1)).abs().max() < 1e-4
