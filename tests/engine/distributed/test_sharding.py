"""All weights split over real processes by FSDP2 (gloo, on the CPU): the same training as in one process."""

import json
import shutil

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import nn

from mixgrpo_engine.distributed import sharding
from mixgrpo_engine.distributed.lockstep import Lockstep
from mixgrpo_engine.memory.micro_batches import BatchSize, OutOfMemory
from mixgrpo_engine.records.events import read
from mixgrpo_engine.training.adapter_average import AdapterAverage
from mixgrpo_engine.training.checkpoint import Checkpoints, OtherLaunch
from tests.engine.distributed import ranks_job
from tests.engine.distributed.ranks_job import largest_difference, lasting, launch_jobs, results
from tests.engine.policies import tiny_pipelines

FSDP = ("--use_fsdp", "--fsdp_version", "2")
RUN_FILES = ranks_job.ROOT / "run_files"
FULL = {"adapter": {"kind": "full"}}
OLD = {"surrogate": "nft", "old_decay": 0.3, "old_decay_growth": 0.2}
NFT = {**FULL, "loss": OLD, "rollout": {"shared_noise": False}}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    ranks_job.main(folder, settings=FULL)
    return folder, results(folder, 1)[0]


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """A folder, exit code and output of 3 processes: one has two of the 4 prompts, two share the held-out ones.

    Under the folder: "run", the same run, "nft", one with an old policy, and "killed", one in which a process dies in
    the third iteration.
    """
    folder = tmp_path_factory.mktemp("split")
    nft = {"folder": folder / "nft", "settings": NFT}
    code, output = launch_jobs(3, toy_job(folder / "run"), nft, toy_job(folder / "killed", kill=[1, 2]), how=FSDP)
    return folder, code, output


@pytest.fixture(scope="module")
def in_two(tmp_path_factory, split):
    """The folder of what 2 processes did, launched as for FLUX on many GPUs.

    Under it: "fewer", which goes on where the killed run ended, and "split" in the folders of two transformers.
    """
    folder = tmp_path_factory.mktemp("in two")
    shutil.copytree(split[0] / "killed", folder / "fewer")
    for name, make in (("flux", tiny_pipelines.flux), ("sd3", tiny_pipelines.sd3)):
        make(folder / name / "model")
    jobs = (
        toy_job(folder / "fewer"),
        {"folder": folder / "flux" / "split", "run_json": write_run_file(folder / "flux", "split")},
        {"folder": folder / "sd3" / "split", "run_json": write_run_file(folder / "sd3", "split", "bf16", cfg=3)},
    )
    code, output = launch_jobs(2, *jobs, how=("--config_file", RUN_FILES / "fsdp_32_gpus.yaml"))
    assert code == 0, output
    return folder


def toy_job(folder, **more):
    return {"folder": folder, "settings": FULL, **more}


def test_gradients_and_run_are_those_of_one_process(alone, split):
    (folder, expected), (launched, _, output) = alone, split
    found = results(launched / "run", 3, output)
    for result in found:
        assert result["outcome"] == "finished" and result["forwards"] == expected["forwards"]
        assert len(result["gradients"]) == len(expected["gradients"]) == 12
        for mine, theirs in zip(result["gradients"], expected["gradients"], strict=True):
            assert largest_difference(mine, theirs) < 1e-4
        assert largest_difference(result["gradients"][0], expected["gradients"][0]) < 1e-5
        assert all(torch.equal(value, found[0]["adapter"][name]) for name, value in result["adapter"].items())
    assert sum(result["held"] for result in found) == expected["held"], "each weight is in one process"
    events, wanted = (lasting(path) for path in (launched / "run", folder))
    assert [event["type"] for event in events] == [event["type"] for event in wanted]
    for event, other in zip(events, wanted, strict=True):
        if event["type"] in ("iteration", "evaluation"):
            assert event["reward"] == pytest.approx(other["reward"], rel=1e-4)


def test_an_old_policy_is_split_as_the_weights_are(tmp_path, split):
    ranks_job.main(tmp_path / "nft", settings=NFT)
    (expected,), found = results(tmp_path / "nft", 1), results(split[0] / "nft", 3)
    for result in found:
        assert result["forwards"] == expected["forwards"]
        for name, value in result["adapter"].items():
            torch.testing.assert_close(value, expected["adapter"][name], atol=1e-5, rtol=1e-3)


def test_a_killed_process_ends_the_job_and_the_checkpoint_goes_on_with_any_number(tmp_path, alone, split, in_two):
    launched, code, output = split
    assert code != 0 and "SIGKILL" in output, output
    shutil.copytree(launched / "killed", tmp_path / "run")
    code, output = launch_jobs(3, toy_job(tmp_path / "run"), how=FSDP)
    assert code == 0, output
    straight, same = (results(folder / "run", 3)[0] for folder in (launched, tmp_path))
    fewer = results(in_two / "fewer", 2)[0]
    for name, value in straight["adapter"].items():
        assert torch.equal(same["adapter"][name], value)
        torch.testing.assert_close(fewer["adapter"][name], alone[1]["adapter"][name], atol=1e-5, rtol=1e-3)
    with pytest.raises(OtherLaunch, match="were saved with FSDP and this run was launched without it: launch it as"):
        ranks_job.main(tmp_path / "run", settings=FULL)


def write_run_file(folder, name, precision="no", cfg=1):
    settings = {
        "rollout": {"steps": 3, "group_size": 3, "prompts_per_iteration": 3, "cfg": cfg},
        "window": {"size": 1, "interval": 1},
        "optimizer": {"updates": 1, "learning_rate": 0.001, "ema_decay": 0.5, "balanced": True},
        "run": {"iterations": 2, "width": 64, "height": 64, "gradient_checkpointing": True, "evaluate_every": 1,
                "evaluate_images": 1, "mixed_precision": precision},
        **FULL,
    }  # fmt: skip
    entries = {
        "model": {"kind": "diffusers", "path": "model", "sequence_length": 32, "device": "cpu"},
        "prompts": ["a red circle", "two blue squares", "a green square"],
        "held_out": ["a red square"],  # one of two processes has none
        "rewards": [{"name": "jpeg"}],
        "settings": settings,
        "output": name,
    }
    (folder / f"{name}.json").write_text(json.dumps(entries))
    return str(folder / f"{name}.json")


def distance(some, others):
    """Of two models' gradients, relative."""
    flat = [torch.cat([each.flatten() for each in gradients]) for gradients in (some, others)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


def test_a_transformer_of_diffusers(in_two):
    """FLUX with gradient checkpointing, an average and evaluations of it; only the main process loads its weights."""
    folder = in_two / "flux"
    ranks_job.main(folder / "alone", run_json=write_run_file(folder, "alone"))
    expected = results(folder / "alone", 1)[0]
    found = results(folder / "split", 2)
    for result in found:
        assert len(result["gradients"]) == 2
        assert largest_difference(result["gradients"][0], expected["gradients"][0]) < 1e-5
        # A rollout with the average's weights, which an evaluation has left in place, would be far off.
        assert distance(result["gradients"][1], expected["gradients"][1]) < 1e-4
        assert 0 < result["held"] < 0.6 * expected["held"]
    # The exported weights are the average, whole, for from_pretrained.
    exported, wanted = (
        FluxTransformer2DModel.from_pretrained(folder / name / "transformer").state_dict()
        for name in ("split", "alone")
    )
    assert exported.keys() == wanted.keys()
    for name, value in wanted.items():
        # Adam's first steps are as large for a gradient of rounding errors alone as for any other.
        torch.testing.assert_close(exported[name], value, atol=4e-3, rtol=0)
    assert distance(list(exported.values()), list(wanted.values())) < 1e-5
    assert any(not torch.equal(value, exported[name]) for name, value in found[0]["adapter"].items())


def test_bf16_rounds_in_the_rollout_as_in_the_update(in_two):
    """SD3 with guidance, and with a buffer that is saved with its weights."""
    folder = in_two / "sd3"
    ranks_job.main(folder / "alone", run_json=write_run_file(folder, "alone", cfg=3))
    expected, found = results(folder / "alone", 1)[0], results(folder / "split", 2)[0]
    iterations = [event for event in read(folder / "split" / "events.jsonl")[0] if event["type"] == "iteration"]
    assert [event["ratio_deviation"] for event in iterations] == [0, 0], "one update an iteration: nothing has changed"
    assert 0 < distance(found["gradients"][0], expected["gradients"][0]) < 0.05
    assert all(value.dtype == torch.float32 for value in found["adapter"].values())


def test_a_damaged_checkpoint_is_named_where_the_others_would_wait(tmp_path, toy):
    trainer = toy.make(tmp_path / "run", toy.config(run={"iterations": 2, "checkpoint_every": 1}))
    trainer.run()
    for path in trainer.checkpoints.complete():
        about = json.loads((path / "progress.json").read_text())
        (path / "progress.json").write_text(json.dumps({**about, "split": True}))
    (trainer.checkpoints.complete()[-1] / "optimizer.bin").write_bytes(b"PK")
    saved = Checkpoints(trainer.folder.checkpoints, trainer.accelerator, trainer.policy, split=True)
    with pytest.raises(RuntimeError, match="000002 can't be read .a file in it is damaged.. Move that folder"):
        saved.load_newest(print)


@pytest.mark.parametrize(
    "environment,kind,sentence",
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "full", "launched with DeepSpeed: use --use_fsdp --fsdp_version 2"),
        ({"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "2"}, "full", "FSDP version 1: add --fsdp_version 2"),
        (
            {"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "2", "FSDP_VERSION": "2"},
            "lora",
            "adapter.kind is 'lora': set it to 'full', or launch with --multi_gpu",
        ),
        ({"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "2", "FSDP_VERSION": "2"}, "full", None),
        ({"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "1"}, "lora", None),
        ({}, "lora", None),
    ],
)
def test_launches_that_do_not_fit_are_named(monkeypatch, environment, kind, sentence):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if sentence is None:
        sharding.check_launch(kind)
    else:
        with pytest.raises(ValueError, match=sentence):
            sharding.check_launch(kind)


class Others:
    """Ranks of which the others still have some calls to make."""

    def __init__(self, calls, split=True):
        self.calls, self.split = calls, split

    def any(self, flag):
        self.calls -= 1
        return flag or self.calls >= 0


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.calls, self.reshards = nn.Parameter(torch.ones(1)), [], 0

    def forward(self, latents, sigma, condition):
        self.calls.append((float(latents), torch.is_grad_enabled()))
        return self.weight * latents

    def reshard(self):
        self.reshards += 1


def test_who_is_done_takes_part_in_the_calls_of_others():
    module = Counting()
    calls = Lockstep(module, Others(3), spare=lambda: (torch.tensor(7.0), 1.0, None))
    with torch.no_grad():
        calls(torch.tensor(1.0), 1.0, None)
    calls.catch_up()
    assert module.calls == [(1, False), (7, False), (7, False)] and module.reshards == 1
    calls.ranks.calls = 2
    calls.catch_up(backward=True)
    assert module.calls[3:] == [(7, True), (7, True)] and module.weight.grad == 0
    whole = Lockstep(module, Others(3, split=False), spare=None)
    whole.catch_up()
    assert len(module.calls) == 5 and module.reshards == 2


def test_out_of_memory_names_the_setting_where_the_others_would_wait():
    def work(size):
        raise OutOfMemory("too many")

    with pytest.raises(RuntimeError, match="Out of memory with 6 images a model call: set optimizer.batch_size to 3"):
        BatchSize(0, "optimizer.batch_size", print, alone=False).run(work, 6)


def test_a_checkpoint_without_fsdp_is_not_taken_with_it(tmp_path, toy):
    trainer = toy.make(tmp_path / "run", toy.config(run={"iterations": 1}))
    trainer.run()
    saved = Checkpoints(trainer.folder.checkpoints, trainer.accelerator, trainer.policy, split=True)
    with pytest.raises(OtherLaunch, match="were saved without FSDP and this run was launched with it"):
        saved.load_newest(print)


def test_an_average_comes_back_from_its_state():
    parameters = [nn.Parameter(torch.zeros(3))]
    average = AdapterAverage(parameters, 0.5)
    with torch.no_grad():
        parameters[0] += 1
    average.update()
    again = AdapterAverage(parameters, 0.5)
    again.load_state(average.state())
    assert torch.equal(again.averages[0], average.averages[0]) and again.updates == 1
