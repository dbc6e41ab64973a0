"""Mixed ODE-SDE sampling: the part before the window once a prompt, the window by an SDE, the rest by an ODE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .solvers import DPMSolverPP
from .transitions import TRANSITIONS, Transition, draw, euler, log_prob

Velocity = Callable[[Tensor, float], Tensor]


@dataclass
class Trajectory:
    """What a rollout leaves: the images' latents, and of the window's steps what the update needs."""

    latents: Tensor  # (batch, ...), sigma = 0
    window: range  # step indices of the window
    states: Tensor  # (window steps + 1, batch, ...): the latents before each window step, and after the last
    log_probs: Tensor | None  # (window steps, batch); None where no step is random (forward_process.py)
    forwards: int  # image-forwards actually run
    sigmas: Tensor  # (steps + 1,), on the CPU
    shared_noise: bool = False  # the images of a group have the same first state
    means: Tensor | None = None  # (window steps, batch, ...): the transitions' means, where they were asked for
    # (window steps, batch, ...), where no step is random: the old policy's at the states, which then are the images
    # noised to the levels before the window's steps; there is none after the last.
    velocities: Tensor | None = None


@torch.no_grad()
def rollout(
    velocity: Velocity,
    noise: Tensor,
    sigmas: Tensor,
    window: range,
    *,
    transition: str | Transition,
    eta: float,
    group_size: int,
    tail: DPMSolverPP | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    shared_noise: bool | None = None,
    keep_means: bool = False,
) -> Trajectory:
    """Samples group_size images a prompt (arXiv 2507.21802, algorithm 1), image i belonging to prompt i // group_size.

    velocity(latents, sigma) -> same shape. Where the group shares its noise, it sees (prompts, ...) up to and with
    the window's first step, and (prompts * group_size, ...) after it: with the same start and no randomness the
    images of a group are one and the same until the first noise is drawn, so that part runs once and is repeated.
    noise: (prompts, ...) when the group shares it, (prompts * group_size, ...) when not. shared_noise says which;
    None takes a number of rows that is a multiple of group_size as one noise an image.
    sigmas: (steps + 1,), falling to 0. window: step indices with noise; its last must not lead to sigma 0 under
    "cps", nor be the schedule's last step.
    tail: solver of the steps after the window, Euler when None. generator: of the noise inside the window;
    a sequence holds one an image, whose noise then doesn't depend on the others in the batch.
    keep_means: keep the means of the window's transitions too (as much memory again as the states).
    """
    levels = [float(sigma) for sigma in sigmas]
    steps = len(levels) - 1
    if not (len(window) and window.start >= 0 and window.stop < steps):
        raise ValueError(
            f"The window {window.start}..{window.stop} doesn't fit {steps} steps: it must hold at least one step "
            "and end before the last."
        )
    transition = TRANSITIONS[transition] if isinstance(transition, str) else transition
    if shared_noise is None:
        shared_noise = len(noise) % group_size != 0

    latents, forwards = noise.float(), 0
    for step in range(window.start):
        latents = euler(latents, velocity(latents, levels[step]), levels[step], levels[step + 1])
        forwards += len(latents)

    states, log_probs, means = [], [], []
    for step in window:
        predicted = velocity(latents, levels[step])
        forwards += len(latents)
        if shared_noise and step == window.start:
            latents, predicted = (values.repeat_interleave(group_size, dim=0) for values in (latents, predicted))
        mean, std = transition(latents, predicted, levels[step], levels[step + 1], eta)
        states.append(latents)
        latents = draw(mean, std, generator)
        log_probs.append(log_prob(latents, mean, std))
        if keep_means:
            means.append(mean)
    states.append(latents)

    if tail is not None:
        tail.reset()
    advance = tail.step if tail is not None else euler
    for step in range(window.stop, steps):
        latents = advance(latents, velocity(latents, levels[step]), levels[step], levels[step + 1])
        forwards += len(latents)
    return Trajectory(
        latents,
        window,
        torch.stack(states),
        torch.stack(log_probs),
        forwards,
        sigmas.cpu(),
        shared_noise,
        torch.stack(means) if keep_means else None,
    )


def join(trajectories: Sequence[Trajectory]) -> Trajectory:
    """Trajectories of other prompts with the same window and sigmas as one: their images side by side."""
    first = trajectories[0]
    if len(trajectories) == 1:
        return first
    return Trajectory(
        torch.cat([each.latents for each in trajectories]),
        first.window,
        torch.cat([each.states for each in trajectories], dim=1),
        _side_by_side([each.log_probs for each in trajectories]),
        sum(each.forwards for each in trajectories),
        first.sigmas,
        first.shared_noise,
        _side_by_side([each.means for each in trajectories]),
        _side_by_side([each.velocities for each in trajectories]),
    )


def _side_by_side(parts: Sequence[Tensor | None]) -> Tensor | None:
    """What all trajectories have kept, or none."""
    kept = [part for part in parts if part is not None]
    assert len(kept) in (0, len(parts))
    return torch.cat(kept, dim=1) if kept else None


@torch.no_grad()
def sample_ode(velocity: Velocity, noise: Tensor, sigmas: Tensor, solver: DPMSolverPP | None = None) -> Tensor:
    """Sampling from sigmas[0] to sigmas[-1] by a new solver; None: plain Euler, `euler` in ComfyUI's KSampler."""
    levels = [float(sigma) for sigma in sigmas]
    latents, advance = noise.float(), solver.step if solver is not None else euler
    for sigma, sigma_next in zip(levels[:-1], levels[1:], strict=True):
        latents = advance(latents, velocity(latents, sigma), sigma, sigma_next)
    return latents
