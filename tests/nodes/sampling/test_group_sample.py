"""MixGRPO_GroupSample on the embedded model: the group that the training would see."""

import json

import pytest
import torch

from tests.nodes.sampling import sampling_graph

PROMPT = "a red circle to the left of a blue square on a white background"
SIZE = 6


@pytest.fixture(scope="module")
def graph(room):
    return sampling_graph.Graph(room, PROMPT)


@pytest.fixture(scope="module")
def reward(room):
    return room("mixgrpo_engine.rewards.shapes").ShapesReward()


@pytest.fixture
def group(room, graph, reward):
    """`group(**changes)` runs the node: (grid, images, scores). Changes go to the rollout, or to the node itself."""

    def run(
        *, window_start=0, window_size=3, seed=1, prompt=PROMPT, reward=reward, model=None, inputs=None,
        surrogate="clip", **changes,
    ):  # fmt: skip
        config = room("mixgrpo_engine.config")
        algorithm = config.TrainConfig(
            config.RolloutConfig(**{"steps": 8, "group_size": SIZE, **changes}),
            config.WindowConfig(size=window_size),
            config.LossConfig(surrogate=surrogate),
        )
        with torch.inference_mode():
            result = (
                room("nodes.sampling.group_sample")
                .MixGRPOGroupSample.execute(
                    model or graph.model, graph.vae, reward, algorithm, prompt, window_start, seed, 64, 64,
                    **({"clip": graph.clip} if inputs is None else inputs),
                )
                .result
            )  # fmt: skip
        return result[0], result[1], json.loads(result[2])

    return run


def column(scores, name):
    return torch.tensor([entry["rewards"][name] for entry in scores["images"]])


def test_rewards_and_advantages_are_the_engines(room, group, reward):
    grid, images, scores = group()
    assert images.shape == (SIZE, 64, 64, 3) and images.min() >= 0 and images.max() <= 1
    expected = reward.score(images, [PROMPT] * SIZE)
    assert torch.equal(column(scores, reward.name), expected) and len(set(expected.tolist())) > 1
    advantages = room("mixgrpo_engine.advantage").group_advantages({reward.name: expected}, SIZE)
    assert torch.allclose(torch.tensor([entry["advantage"] for entry in scores["images"]]), advantages)
    assert [entry["image"] for entry in scores["images"]] == list(range(SIZE))
    assert scores["prompt"] == PROMPT and scores["window"] == [0, 3] and scores["seed"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"window_start": 3},
        {"shared_noise": False, "transition": "cps"},
        {"steps": 14, "flash_ratio": 0.4, "tail_order": 2},
        {"steps": 14, "flash_ratio": 0.4, "tail_order": 2, "tail_variant": "heun"},
        {"window_start": 2, "cfg": 3.0},
    ],
)
def test_the_images_are_those_of_a_rollout_of_the_trainings_policy(room, graph, group, changes):
    """ComfyPolicy and rollout, as the trainer calls them."""
    _, images, _ = group(**changes)
    seeds, schedule = room("mixgrpo_engine.seeds"), room("mixgrpo_engine.schedule")
    encoded = room("nodes.model.conditioning").encode_prompts(graph.clip, [PROMPT, ""])
    policy = room("nodes.model.policy").ComfyPolicy(
        graph.model, graph.vae, encoded, width=64, height=64, cfg=changes.get("cfg", 1.0),
        adapter=room("mixgrpo_engine.config").AdapterConfig(rank=2), seed=0,
    )  # fmt: skip
    start, shared = changes.get("window_start", 0), changes.get("shared_noise", True)
    window, sigmas = range(start, start + 3), policy.sigmas(changes.get("steps", 8))
    if "flash_ratio" in changes:
        sigmas = schedule.flash_sigmas(sigmas, window, 0.4, policy.shift())
    noise = policy.noise([seeds.derive(1, "noise", 0, index) for index in range(1 if shared else SIZE)])
    condition = policy.condition([PROMPT])
    trajectory = room("mixgrpo_engine.rollout").rollout(
        lambda x, sigma: policy.module(x, sigma, condition.select([0] * len(x))),
        noise,
        sigmas,
        window,
        transition=changes.get("transition", "flow_sde"),
        eta=0.7,
        group_size=SIZE if shared else 1,
        tail=room("mixgrpo_engine.solvers").dpm_tail(
            changes.get("tail_order", 1), changes.get("tail_variant", "midpoint")
        ),
        generator=[seeds.generator(1, "window", 0, image) for image in range(SIZE)],
        shared_noise=shared,
    )
    assert (policy.decode(trajectory.latents) - images).abs().max() < 2e-3


@pytest.mark.parametrize("order", [1, 2])
def test_diffusion_nft_takes_no_random_step(room, graph, group, order):
    _, images, _ = group(surrogate="nft", shared_noise=False, tail_order=order)
    encoded = room("nodes.model.conditioning").encode_prompts(graph.clip, [PROMPT])
    policy = room("nodes.model.policy").ComfyPolicy(
        graph.model, graph.vae, encoded, width=64, height=64,
        adapter=room("mixgrpo_engine.config").AdapterConfig(rank=2), seed=0,
    )  # fmt: skip
    noise = policy.noise([room("mixgrpo_engine.seeds").derive(1, "noise", 0, index) for index in range(SIZE)])
    condition = policy.condition([PROMPT])
    with torch.no_grad():
        latents = room("mixgrpo_engine.rollout").sample_ode(
            lambda x, sigma: policy.module(x, sigma, condition.select([0] * len(x))),
            noise,
            policy.sigmas(8),
            room("mixgrpo_engine.solvers").dpm_tail(order, "midpoint"),
        )
    assert torch.allclose(images, policy.decode(latents), atol=1e-3)


def test_the_tails_variant_is_another_solver(group):
    flash = {"steps": 14, "flash_ratio": 0.4, "tail_order": 2}
    _, midpoint, _ = group(**flash)
    _, heun, _ = group(**flash, tail_variant="heun")
    assert (midpoint - heun).abs().max() > 0.01


def test_window_size_0_is_every_step_but_the_last(group):
    _, every, scores = group(window_size=0)
    assert scores["window"] == [0, 7]
    _, same, _ = group(window_size=7)
    assert torch.equal(every, same)
    with pytest.raises(ValueError, match=r"window 2\.\.9 doesn't fit 8 steps"):
        group(window_size=0, window_start=2)


def test_steps_before_the_window_run_once_for_the_group(graph, group):
    calls = []

    def count(apply_model, args):
        calls.append(len(args["input"]))
        return apply_model(args["input"], args["timestep"], **args["c"])

    model = graph.model.clone()
    model.set_model_unet_function_wrapper(count)
    group(model=model, window_start=4)
    assert calls == [1] * 5 + [SIZE] * 3  # and the first step of the window, before its noise is drawn
    calls.clear()
    group(model=model, window_start=4, shared_noise=False)
    assert calls == [SIZE] * 8
    calls.clear()
    group(model=model, window_start=4, batch_size=4)
    assert calls == [1] * 5 + [4, 2] * 3


def test_an_image_does_not_depend_on_the_groups_size(group):
    _, six, _ = group()
    for changes in ({"group_size": 3}, {"batch_size": 2}):
        _, other, _ = group(**changes)
        assert (six[: len(other)] - other).abs().max() < 2e-3
    for shared in (True, False):
        _, images, _ = group(shared_noise=shared)
        assert all((images[0] - image).abs().max() > 0.1 for image in images[1:])
    _, reseeded, _ = group(seed=2)
    assert (six - reseeded).abs().max() > 0.1


def test_less_noise_makes_a_group_more_alike(group):
    spread = [float(group(eta=eta)[1].std(0).mean()) for eta in (0.1, 0.7)]
    assert 0 < spread[0] < 0.7 * spread[1]


def test_a_failed_score_is_shown_as_none_and_changes_no_other_advantage(room, group):
    class Partly:
        name = "partly"
        remarks = ["The others are guesses."]

        def score(self, images, prompts):
            assert prompts == [PROMPT] * SIZE
            return torch.tensor([1.0, float("nan"), 3.0, 2.0, 2.0, 2.0])

    _, _, scores = group(reward=Partly())
    assert scores["images"][1] == {"image": 1, "rewards": {"partly": None}, "advantage": 0.0}
    assert scores["remarks"] == ["partly: The others are guesses."]
    given = torch.tensor([1.0, float("nan"), 3.0, 2.0, 2.0, 2.0])
    expected = room("mixgrpo_engine.advantage").group_advantages({"partly": given}, SIZE)
    assert torch.allclose(torch.tensor([entry["advantage"] for entry in scores["images"]]), expected)


def test_a_reward_that_does_not_score_each_image_is_one_sentence(group):
    class Mean:
        name = "mean"

        def score(self, images, prompts):
            return images.mean()

    with pytest.raises(ValueError, match="one an image"):
        group(reward=Mean())


def test_a_conditioning_serves_instead_of_the_clip(graph, group):
    _, by_clip, _ = group()
    _, by_conditioning, _ = group(inputs={"positive": graph.positive})
    assert torch.equal(by_clip, by_conditioning)
    both = {"positive": graph.positive, "negative": graph.negative}
    _, guided, _ = group(cfg=3.0)
    _, guided_by_conditioning, _ = group(cfg=3.0, inputs=both)
    assert torch.equal(guided, guided_by_conditioning) and not torch.equal(guided, by_clip)


def test_the_grid_shows_every_image(group):
    grid, images, _ = group()
    assert grid.ndim == 4 and grid.shape[0] == 1 and grid.shape[3] == 3 and grid.dtype == torch.float32
    assert grid.min() >= 0 and grid.max() <= 1
    # Six images in three columns: each stands in the sheet, enlarged threefold without smoothing.
    sheet = grid[0]
    for index, image in enumerate(images):
        wanted = ((image * 255).round() / 255).repeat_interleave(3, 0).repeat_interleave(3, 1)
        strip = sheet[:, 6 + index % 3 * 198 :][:, :192]
        places = range(len(strip) - 191)
        assert any(torch.allclose(strip[y : y + 192], wanted, atol=1e-3) for y in places), index


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": {}}, "Neither clip nor positive"),
        ({"window_start": 5}, r"window 5\.\.8 doesn't fit 8 steps"),
    ],
)
def test_what_is_missing_is_one_sentence(group, changes, words):
    with pytest.raises(ValueError, match=words):
        group(**changes)


def test_a_reward_that_needs_a_source_is_refused_before_anything_is_sampled(group):
    class Sees:
        name, uses_references, needed_references = "sees", True, ("image",)

        def score(self, images, prompts, references):
            raise AssertionError("Nothing was to be sampled.")

    with pytest.raises(ValueError, match="'sees' compares with the picture 'image'.*prompts only"):
        group(reward=Sees(), window_start=5)  # that window is refused once something is sampled


def test_guidance_needs_a_negative_prompt(graph, group):
    with pytest.raises(ValueError, match="without a negative prompt"):
        group(cfg=2.0, inputs={"positive": graph.positive})


def test_a_model_that_is_not_flow_matching_is_refused(graph, group):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    with pytest.raises(ValueError, match="isn't flow matching"):
        group(model=ModelSamplingDiscrete().patch(graph.model, "eps", False)[0])


def test_the_schema_explains_itself(room):
    schema = room("nodes.sampling.group_sample").MixGRPOGroupSample.define_schema()
    assert schema.node_id == "MixGRPO_GroupSample" and schema.description
    assert all(part.tooltip for part in [*schema.inputs, *schema.outputs])
