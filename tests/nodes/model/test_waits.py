"""How often a training stands still until the GPU has done its work. `pytest -s` prints where."""

import pytest
import torch

from tests import pretended_gpu

SIZE = 32  # pixels
PROMPTS = ("red", "long")  # of different lengths: two model calls a batch


class Brightness:
    def score(self, images, prompts):
        return images.flatten(1).mean(1)


@pytest.fixture(params=[0, 1], ids=["resident", "swapped"])
def trainer(request, room, build, vae, encoded, tmp_path):
    """A trainer of 2 prompts with 3 images, whose policy, LoRA and optimizer are then moved to the pretended GPU.

    Once the weights of a block stay in host memory.
    """
    engine = {name: room(f"mixgrpo_engine.{name}") for name in ("config", "lora", "prompts", "records.run_folder")}
    training = {name: room(f"mixgrpo_engine.training.{name}") for name in ("trainer", "policy_update")}
    config = engine["config"].TrainConfig.from_dict(
        {
            "rollout": {"steps": 5, "group_size": 3, "prompts_per_iteration": 2, "cfg": 3.0},
            "window": {"size": 2},
            "optimizer": {"updates": 2},
            "loss": {"kl_weight": 0.01},
            "adapter": {"rank": 4},
            "run": {"width": SIZE, "height": SIZE, "evaluate_every": 0, "sample_every": 0},
        }
    )
    policy = room("nodes.model.policy").ComfyPolicy(
        build(), vae, encoded, width=SIZE, height=SIZE, cfg=3.0, adapter=config.adapter, seed=3,
        swapped_blocks=request.param,
    )  # fmt: skip
    folder, prompts = engine["records.run_folder"].RunFolder(tmp_path / "run"), engine["prompts"].PromptSet(PROMPTS, ())
    made = training["trainer"].Trainer(policy, {"brightness": Brightness()}, prompts, config, folder, folder.emit)
    pretended_gpu.move(policy.module)
    policy.device = pretended_gpu.GPU
    if policy.swap:
        policy.swap.device = pretended_gpu.GPU
    parameters = engine["lora"].parameters(policy.module)
    optimizer = made.accelerator.prepare_optimizer(torch.optim.AdamW(parameters))
    made.updates = training["policy_update"].PolicyUpdate(
        policy, made.lockstep, parameters, optimizer, made.accelerator, config, made.pulse, made.ranks
    )
    return made


def test_none_in_a_rollout_and_one_an_update(trainer):
    gpu, advantages = pretended_gpu.PretendedGpu(), torch.linspace(-1, 1, 6)
    with gpu:
        condition = trainer.policy.condition(PROMPTS)
        trajectory = trainer.sampler.rollout(0, range(1, 3), PROMPTS)
        assert trajectory.latents.device == pretended_gpu.GPU and gpu.waits == []
        for iteration, batch_size in enumerate((0, 12)):  # calls of one step, and of several joined ones
            trainer.updates.batch_size.size = batch_size
            report = trainer.updates.update(iteration, trajectory, condition, advantages)
            print(*gpu.waits, sep="\n")
            assert report.steps == 2 and report.ratio_deviation > 0
            assert report.forwards == 2 * 2 * (2 + 3), "of policy and base: prompts share their first step"
            # The first one looks whether every layer has a gradient, too.
            assert len(gpu.waits) == 2 + (iteration == 0)
            gpu.waits.clear()
    assert not trainer.policy.swap or trainer.policy.swap.fetched > 0
    values = torch.cat([tensor.flatten() for tensor in trainer.policy.adapter_state().values()]).cpu_values
    assert values.isfinite().all() and values.abs().max() > 0


def test_waits_are_noticed():
    gpu = pretended_gpu.PretendedGpu()
    with gpu:
        there = torch.ones(3, device=pretended_gpu.GPU)
        for wait in (
            lambda: there.sum().item(),
            lambda: bool(there[0]),
            lambda: there.tolist(),
            lambda: there.cpu(),
            lambda: torch.zeros(3).to(there.device),
            lambda: torch.tensor([1.0], device=there.device),
            lambda: there[[0, 1]],
            lambda: there[torch.tensor([0])],
        ):
            before = len(gpu.waits)
            wait()
            assert len(gpu.waits) == before + 1
        before = len(gpu.waits)
        assert (there * 2 + torch.zeros(3).to(there.device, non_blocking=True)).cpu_values.tolist() == [2, 2, 2]
        assert len(gpu.waits) == before
        with pytest.raises(RuntimeError, match="on the CPU and on the GPU"):
            there + torch.zeros(3)
