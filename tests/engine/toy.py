"""A small policy without ComfyUI, a linear velocity field with a LoRA-like adapter on 4-value latents, and its runs."""

import contextlib

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch import nn

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.distributed import sharding
from mixgrpo_engine.prompts import PromptSet
from mixgrpo_engine.records.events import read
from mixgrpo_engine.records.run_folder import RunFolder
from mixgrpo_engine.schedule import flow_sigmas
from mixgrpo_engine.training.trainer import Trainer

PROMPTS = PromptSet(("up", "down"), ("left", "right"))
TARGETS = {"up": 1.0, "down": -1.0, "left": 0.5, "right": -0.5}


class ToyCondition:
    def __init__(self, targets):
        self.targets = targets

    def __len__(self):
        return len(self.targets)

    def select(self, rows):
        return ToyCondition(self.targets[list(rows)])


class ToyModule(nn.Module):
    """velocity = (latents - x0) / sigma, x0 a learned function of the prompt's target."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.base = nn.Linear(1, 4)
        with torch.no_grad():
            self.base.weight.copy_(torch.randn(4, 1, generator=generator) * 0.1)
            self.base.bias.zero_()
        self.base.requires_grad_(False)
        self.adapter = nn.Linear(1, 4)
        nn.init.zeros_(self.adapter.weight)
        nn.init.zeros_(self.adapter.bias)
        # 0.8: the model never quite trusts its image, so that velocities stay finite at small sigma.
        self.register_buffer("trust", torch.tensor([0.8]))
        self.on = True

    def forward(self, latents, sigma, condition):
        image = self.base(condition.targets[:, None])
        if self.on:
            image = image + self.adapter(condition.targets[:, None])
        if isinstance(sigma, torch.Tensor):
            sigma = sigma.view(-1, 1, 1, 1)
        return (latents - self.trust * image.view_as(latents)) / (1 - self.trust + self.trust * sigma)


class ToyPolicy:
    device = torch.device("cpu")

    def __init__(self, seed=0):
        self.module = ToyModule(seed)
        self.shapes = {}  # of prompts whose images have another size

    def sigmas(self, steps, shift=0.0):
        return flow_sigmas(steps, shift or 3.0)

    def shift(self):
        return 3.0

    def condition(self, prompts):
        return ToyCondition(torch.tensor([TARGETS[prompt] for prompt in prompts]))

    def shape_of(self, prompt):
        return self.shapes.get(prompt, (1, 2, 2))

    def noise(self, seeds, prompt=None):
        shape = self.shape_of(prompt)
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds])

    def decode(self, latents):
        return latents.mean(1, keepdim=False)[..., None].expand(-1, -1, -1, 3).clone()

    @contextlib.contextmanager
    def base(self):
        self.module.on = False
        try:
            yield
        finally:
            self.module.on = True

    def rescale_gradients(self):
        return False

    def adapter_state(self):
        return dict(self.module.adapter.state_dict())

    def load_adapter_state(self, state):
        self.module.adapter.load_state_dict(state)

    def export(self, path, metadata):
        state = {name: sharding.gathered(value).contiguous() for name, value in self.adapter_state().items()}
        if PartialState().is_main_process:
            save_file(state, str(path), metadata)


class ToyReward:
    """Higher the nearer the image's mean is to its prompt's target."""

    name = "toy"

    def score(self, images, prompts):
        targets = torch.tensor([TARGETS[p] for p in prompts])
        return -(images.flatten(1).mean(1) - targets).abs()


def config(**groups):
    """Settings of a run of a second: 8 iterations of 2 prompts with 6 images each. groups: what differs from them."""
    values = {
        "rollout": {"steps": 6, "group_size": 6, "prompts_per_iteration": 2},
        "window": {"size": 2, "interval": 2},
        "optimizer": {"learning_rate": 0.05, "updates": 2},
        "loss": {"clip_range": 0.2},
        "run": {"iterations": 8, "evaluate_every": 4, "checkpoint_every": 2, "sample_every": 0},
    }
    for group, changes in groups.items():
        values.setdefault(group, {}).update(changes)
    return TrainConfig.from_dict(values)


class Brightness:
    """Ten times an image's mean, whatever the prompt."""

    name = "brightness"

    def score(self, images, prompts):
        return 10 * images.flatten(1).mean(1)


def make(folder, settings=None, reward=None, others=(), seed=0, prompts=PROMPTS, policy=None, after=None, **options):
    """A Trainer of the toy policy (a new one unless given) in that folder.

    reward: the toy's own unless given; others: more rewards. options: the Trainer's should_stop, weights and watched.
    after: gets every event, once the run folder has it.
    """
    folder, rewards = RunFolder(folder), {each.name: each for each in (reward or ToyReward(), *others)}
    policy = policy or ToyPolicy(seed)

    def emit(event):
        folder.emit(event)
        if after:
            after(event)

    return Trainer(policy, rewards, prompts, settings or config(), folder, emit, **options)


def adapter(trainer):
    """A copy of the adapter's tensors."""
    return {name: sharding.gathered(value).clone() for name, value in trainer.policy.adapter_state().items()}


def events(trainer, kind):
    return [event for event in read(trainer.folder.events)[0] if event["type"] == kind]
