"""Runs that `accelerate launch` starts in several processes: `-m tests.engine.distributed.ranks_job <json>`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState

from mixgrpo_engine.distributed import sharding
from mixgrpo_engine.distributed.ranks import leave
from mixgrpo_engine.records.events import read
from mixgrpo_engine.standalone import run_file, runner
from mixgrpo_engine.training.trainer import Trainer
from tests.engine import toy

ROOT = Path(__file__).resolve().parents[3]


def main(folder, iterations=4, prompts=4, kill=None, settings=None, run_json=None):
    """The toy policy's run, or that of a run file. kill: [rank, iteration]; that process dies there.

    Writes what each process has into the folder's parent.
    """
    trainer = of_run_file(run_json) if run_json else of_toy(folder, iterations, prompts, settings or {})
    rank, gradients = trainer.ranks.index, []
    update, step = trainer.updates._step, trainer.step

    def noting(norm):
        gradients.append([sharding.gathered(parameter.grad).clone() for parameter in trainer.parameters])
        return update(norm)

    def dying():
        if kill == [rank, trainer.iteration]:
            os.kill(os.getpid(), signal.SIGKILL)
        return step()

    trainer.updates._step, trainer.step = noting, dying
    held = sum(sharding.own_part(parameter).numel() for parameter in trainer.parameters)
    outcome = trainer.run()
    result = {
        "outcome": outcome,
        "forwards": trainer.forwards,
        "gradients": gradients,
        "adapter": toy.adapter(trainer),
        "held": held,
        "patience": patience(),
    }
    torch.save(result, f"{folder}-rank{rank}.pt")


def patience():
    """Seconds that this process waits for the others; None where it is alone."""
    if not torch.distributed.is_initialized():
        return None
    group = torch.distributed.distributed_c10d._get_default_group()
    return group._get_backend(torch.device("cpu")).options._timeout.total_seconds()


def of_toy(folder, iterations, prompts, settings):
    groups = {
        "rollout": {"prompts_per_iteration": prompts},
        "optimizer": {"ema_decay": 0.5, "updates": 3},
        "run": {"iterations": iterations, "evaluate_every": 2, "checkpoint_every": 1},
    }
    for name, changes in settings.items():
        groups[name] = {**groups.get(name, {}), **changes}
    policy = toy.ToyPolicy()
    if sharding.wanted() and not PartialState(cpu=True).is_main_process:
        _forget(policy.module)
    return toy.make(folder, toy.config(**groups), policy=policy)


@torch.no_grad()
def _forget(module):
    """As a model that this process has never loaded: the main process's values must reach it."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.fill_(float("nan"))


def of_run_file(path):
    run = runner.Run(run_file.read(path))
    run.folder.create()
    policy = run.policy(lambda: False)
    return Trainer(policy, {"place": Place()}, run.file.prompts, run.config, run.folder, run.emit)


class Place:
    """An image's place in its group, which no rounding changes: gradients then differ by the model's own alone."""

    name = "place"

    def score(self, images, prompts):
        return torch.arange(len(images)).float()


def launch(count, *arguments, how=("--multi_gpu",)):
    """Starts a module (its name and arguments) in `count` processes as a user would; (exit code, what it printed)."""
    command = [sys.executable, "-m", "accelerate.commands.launch", *how, "--num_processes", str(count)]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def launch_jobs(count, *jobs, how=("--multi_gpu",)):
    """main() with each of these arguments in turn: starting processes takes far longer than what they do here."""
    return launch(count, "tests.engine.distributed.ranks_job", json.dumps(jobs, default=str), how=how)


def results(folder, count, output=""):
    """What each process of a job has written; output: what it printed, for one that has written nothing."""
    paths = [Path(f"{folder}-rank{rank}.pt") for rank in range(count)]
    assert all(path.exists() for path in paths), output
    return [torch.load(path, weights_only=True) for path in paths]


def lasting(folder):
    """A run's events but the signs of life between them, which come by the clock."""
    return [event for event in read(Path(folder) / "events.jsonl")[0] if event["type"] != "progress"]


def largest_difference(some, others):
    """Relative to the largest value of each tensor."""
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-6)) for a, b in zip(some, others, strict=True))


if __name__ == "__main__":
    for job in json.loads(sys.argv[1]):
        main(**job)
        AcceleratorState._reset_state(reset_partial_state=True)  # the next job's precision may be another
    leave(0)
