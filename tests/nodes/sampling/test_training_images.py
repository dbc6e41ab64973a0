"""The images of a real training on the embedded model, made again by MixGRPO_Sampler in a stock graph."""

import pytest
import torch

from tests.nodes.sampling import sampling_graph

PROMPTS = ("a red circle on a white background", "two blue squares", "a green triangle above a yellow circle")
SEED, SIZE = 5, 3


@pytest.fixture(scope="module")
def parts(room):
    return sampling_graph.Graph(room, PROMPTS[0])


@pytest.fixture
def train(room, parts, tmp_path):
    """`train(**rollout)` trains two iterations of two prompts: its config, prompts, and of the second iteration
    (latents of all images, the LoRA that it began with)."""

    def run(window=None, batch_size=0, **rollout):
        config = room("mixgrpo_engine.config").TrainConfig.from_dict(
            {
                "rollout": {"steps": 8, "group_size": SIZE, "prompts_per_iteration": 2, **rollout},
                "window": {"size": 3, "interval": 1, **(window or {})},
                "optimizer": {"updates": 1, "learning_rate": 1e-2},
                "adapter": {"rank": 4},
                "run": {"iterations": 2, "evaluate_every": 0, "width": 64, "height": 64, "seed": SEED},
            }
        )
        prompts = room("mixgrpo_engine.prompts").PromptSet(PROMPTS)
        with torch.no_grad():
            encoded = room("nodes.model.conditioning").encode_prompts(parts.clip, [*PROMPTS, ""])
        policy = room("nodes.model.policy").ComfyPolicy(
            parts.model, parts.vae, encoded, width=64, height=64, cfg=config.rollout.cfg, adapter=config.adapter, seed=0
        )
        reward = room("mixgrpo_engine.rewards.jpeg").JpegReward("compressibility")
        trainer = room("mixgrpo_engine.training.trainer").Trainer(
            policy, {"jpeg": reward}, prompts, config, room("mixgrpo_engine.records.run_folder").RunFolder(tmp_path),
            lambda event: None,
        )  # fmt: skip
        trainer.sampler.batch_size.size = batch_size
        collect, seen = trainer.sampler.collect, {}

        def watched(iteration, window, of_iteration):
            policy.export(tmp_path / f"{iteration}.safetensors", {})
            seen[iteration] = collect(iteration, window, of_iteration).trajectory.latents, of_iteration
            return collect(iteration, window, of_iteration)

        trainer.sampler.collect = watched
        assert trainer.run() == "finished"
        return config, prompts, seen, tmp_path

    return run


def sampled(room, sampling, parts, config, prompts, folder, *, iteration, image, batch=1, seed=SEED, **changes):
    """(latents of a stock graph with the sampler, its prompt). The graph's own noise has nothing to do with it."""
    import comfy.sd
    import comfy.utils

    algorithm = room("mixgrpo_engine.config").TrainConfig(config.rollout, config.window)
    sampler, prompt = sampling.MixGRPOSampler.execute(
        0, 4, "flow_sde", 0.7, 1, "midpoint", algorithm=algorithm, run_seed=seed, iteration=iteration, image=image,
        prompts=prompts,
    ).result  # fmt: skip
    options, window = config.rollout, config.sliding_window().at(iteration - 1)
    sigmas = sampling.MixGRPOSigmas.execute(
        parts.model, options.steps, options.shift, options.flash_ratio, window.start, len(window),
        options.spacing,
    ).result[0]  # fmt: skip
    weights = comfy.utils.load_torch_file(str(folder / f"{iteration - 1}.safetensors"), safe_load=True)
    model = comfy.sd.load_lora_for_models(parts.model, None, weights, 1.0, 0)[0]
    graph = sampling_graph.Graph.__new__(sampling_graph.Graph)
    graph.__dict__.update(vars(parts))
    graph.positive = parts.clip.encode_from_tokens_scheduled(parts.clip.tokenize(prompt or PROMPTS[0]))
    given = {"cfg": options.cfg, "model": model, "batch": batch, "seed": 1234, **changes}
    return graph.sample(sampler, given.pop("sigmas", sigmas), **given), prompt


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"shared_noise": False},
        {"cfg": 3.0, "transition": "cps", "shift": 2.0},
        {"steps": 14, "flash_ratio": 0.4, "tail_order": 2, "tail_variant": "heun"},
        {"window": {"strategy": "random"}, "shared_noise": False, "transition": "dance_sde", "eta": 0.4},
        {"batch_size": 2},
        {"spacing": "diffusers", "shift": 3.0},
    ],
)
def test_each_image_of_a_training_is_made_again(room, sampling, parts, train, settings):
    config, prompts, seen, folder = train(**settings)
    for iteration in (1, 2):
        latents, of_iteration = seen[iteration - 1]
        assert latents.std() > 0.1 and len(latents) == 2 * SIZE
        for image in (0, 2, 4):
            made, prompt = sampled(
                room, sampling, parts, config, prompts, folder, iteration=iteration, image=image
            )  # fmt: skip
            assert prompt == of_iteration[image // SIZE]
            # Other images of the group are farther than 0.1.
            assert (made - latents[image]).abs().max() < 2e-3, (iteration, image)
        group, _ = sampled(
            room, sampling, parts, config, prompts, folder, iteration=iteration, image=SIZE, batch=SIZE
        )  # fmt: skip
        assert (group - latents[SIZE:]).abs().max() < 2e-3
        assert all((group[0] - other).abs().max() > 0.1 for other in group[1:])


def test_another_seed_iteration_or_image_is_another_image(room, sampling, parts, train):
    config, prompts, seen, folder = train()
    wanted = seen[0][0][1]
    for change in ({"seed": 6}, {"iteration": 2}, {"image": 2}):
        made, _ = sampled(room, sampling, parts, config, None, folder, **{"iteration": 1, "image": 1, **change})
        assert (made - wanted).abs().max() > 0.1


def test_what_is_not_the_training_is_refused(room, sampling, parts, train):
    config, prompts, _, folder = train(cfg=2.0)
    rest = (room, sampling, parts, config, prompts, folder)
    with pytest.raises(ValueError, match=r"image is 6: an iteration of this algorithm has the images 0 to 5\."):
        sampled(*rest, iteration=1, image=6)
    with pytest.raises(ValueError, match="The images 2 to 3 belong to several prompts, because group_size is 3"):
        sampled(*rest, iteration=1, image=2, batch=2)
    with pytest.raises(ValueError, match="cfg is 1 in the guider and 2 in the algorithm"):
        sampled(*rest, iteration=1, image=0, cfg=1.0)
    other = sampling.MixGRPOSigmas.execute(parts.model, 8, 5.0, 1.0, 0, 4).result[0]
    uneven = sampling.MixGRPOSigmas.execute(parts.model, 8, 0.0, 1.0, 0, 4, "diffusers").result[0]
    wanted = "iteration 2: connect MixGRPO Sigmas with steps 8, shift 0, .* window_start 1, .* and spacing uniform"
    for sigmas in (other, other[:-1], uneven):
        with pytest.raises(ValueError, match=wanted):
            sampled(*rest, iteration=2, image=0, sigmas=sigmas)


def test_group_sample_shows_a_trainings_first_group(room, sampling, parts, train):
    config, prompts, seen, _ = train()
    prompt = prompts.at(0, 2, SEED)[0]
    images = sampling.MixGRPOGroupSample.execute(
        parts.model, parts.vae, room("mixgrpo_engine.rewards.jpeg").JpegReward("compressibility"),
        room("mixgrpo_engine.config").TrainConfig(config.rollout, config.window), prompt, 0, SEED, 64, 64,
        clip=parts.clip,
    ).result[1]  # fmt: skip
    assert (images - parts.images(seen[0][0][:SIZE])).abs().max() < 5e-3
