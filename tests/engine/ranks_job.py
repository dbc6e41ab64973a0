"""A run of the toy policy that `accelerate launch` starts in several processes: `-m tests.engine.ranks_job <json>`."""

import json
import os
import signal
import sys

import torch
from accelerate import PartialState

from mixgrpo_engine import sharding
from tests.engine import toy


def main(folder, iterations, prompts=4, kill=None, settings=None):
    """kill: [rank, iteration]; that process dies there. Writes what each process has into the folder's parent."""
    groups = {
        "rollout": {"prompts_per_iteration": prompts},
        "optimizer": {"ema_decay": 0.5, "updates": 3},
        "run": {"iterations": iterations, "evaluate_every": 2, "checkpoint_every": 1},
        **(settings or {}),
    }
    trainer = toy.make(folder, toy.config(**groups))
    rank, gradients = trainer.ranks.index, []
    step, policy_step = trainer.optimizer.step, trainer.step

    def noting():
        gradients.append([sharding.whole(parameter.grad).clone() for parameter in trainer.parameters])
        return step()

    def dying():
        if kill == [rank, trainer.iteration]:
            os.kill(os.getpid(), signal.SIGKILL)
        return policy_step()

    trainer.optimizer.step, trainer.step = noting, dying
    outcome = trainer.run()
    result = {"outcome": outcome, "forwards": trainer.forwards, "gradients": gradients, "adapter": toy.adapter(trainer)}
    torch.save(result, f"{folder}-rank{rank}.pt")


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
    PartialState().destroy_process_group()
