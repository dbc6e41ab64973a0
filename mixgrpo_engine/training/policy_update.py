"""The second half of an iteration: gradient updates over random minibatches of its images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..config import TrainConfig
from ..distributed.lockstep import Lockstep
from ..distributed.ranks import Ranks
from ..distributed.sharding import gathered
from ..forward_process import nft_loss
from ..memory.micro_batches import BatchSize
from ..objective import (
    flow_grpo_kl,
    kl_mask_loss,
    mean_kl,
    mean_squared_shift,
    policy_loss,
    ratio_norm_loss,
    velocity_kl,
)
from ..policy import Condition, Policy
from ..rollout import Trajectory
from ..transfers import send
from ..transitions import TRANSITIONS, log_prob
from .gradient_audit import GradientAudit
from .pulse import Pulse
from .update_plan import learning_rate, minibatches, step_weights, trained_places

LEAST_SCALE = 1.0  # of mixed precision's scaler: while it is above, a step that it skips only finds the right scale


@dataclass
class UpdateReport:
    """What the updates of one iteration did."""

    loss: float = 0.0
    grad_norm: float = 0.0  # before clipping, mean over the updates
    ratio_deviation: float | None = None  # mean |ratio - 1| of the last update; None where no step is random
    deviations: dict[str, float] = field(default_factory=dict)  # the same of each pass, by its number, if several
    clip_fraction: float | None = None  # share of ratios outside 1 +- clip_range; None likewise
    forwards: int = 0  # image-forwards
    steps: int = 0  # of the optimizer
    kl: float | None = None  # to the base model, mean over the updates; None where none is asked for


class Figures(NamedTuple):
    """Of one gradient update."""

    loss: float
    deviation: float  # mean |ratio - 1|
    clipped: float  # share of ratios outside 1 +- clip_range
    kl: float
    norm: float  # of the gradient before clipping

    @property
    def finite(self) -> bool:
        return math.isfinite(self.norm)


@dataclass(frozen=True)
class Minibatch:
    """The images of one gradient update, as far as this process has them."""

    trajectory: Trajectory  # of all of this process's images
    condition: Condition  # one row a prompt
    advantages: Tensor  # (batch,), of all of this process's images
    rows: Tensor  # those of the minibatch that have an advantage
    places: Sequence[int]  # trained steps, counted from the window's first
    size: int  # of the whole minibatch: those without an advantage and other processes' count, too
    fresh: bool = False  # the policy is still the one that sampled the images: ratios are 1 but for rounding
    weights: Sequence[float] | None = None  # of the window's steps in the loss; None: all alike

    @property
    def terms(self) -> int:
        """How many terms the whole loss is the mean of."""
        return self.size * len(self.places)

    def sigmas(self, place: int) -> tuple[float, float]:
        """Noise levels before and after a window step."""
        step = self.trajectory.window[place]
        return float(self.trajectory.sigmas[step]), float(self.trajectory.sigmas[step + 1])


@dataclass
class SharedState:
    """A state of the trajectory that the model is called at, and the images whose terms it serves."""

    place: int  # window step, counted from the first
    row: int  # image
    images: list[int]


class PolicyUpdate:
    """Improves the adapter on what an iteration has sampled."""

    def __init__(
        self,
        policy: Policy,
        module: Lockstep,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        config: TrainConfig,
        pulse: Pulse,
        ranks: Ranks,
    ) -> None:
        """module, parameters (the trained ones), optimizer: as accelerate prepared them."""
        self.policy, self.module, self.optimizer, self.accelerator = policy, module, optimizer, accelerator
        self.parameters = list(parameters)
        self.config, self.pulse, self.ranks = config, pulse, ranks
        self.transition = TRANSITIONS[config.rollout.transition]
        # Weights are only split without ComfyUI, whose widget has a name of its own for it.
        name = "settings.optimizer.batch_size" if ranks.split else "update_batch_size"
        self.batch_size = BatchSize(config.optimizer.batch_size, name, pulse.notice, alone=not ranks.split)
        self.audit = GradientAudit(policy, pulse, ranks)
        self.forwards = 0
        self.stepping = False  # between an iteration's first step and its end the adapter is of no iteration

    def update(self, iteration: int, trajectory: Trajectory, condition: Condition, advantages: Tensor) -> UpdateReport:
        """The iteration's updates, over random minibatches of all its images, none left over; in each pass anew.

        trajectory, condition (one row a prompt): this process's share; advantages: (batch,), of all images.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, iteration)
        self.forwards = 0
        drawn = minibatches(self.config, len(advantages), iteration)
        places = trained_places(self.config, len(trajectory.window), iteration)
        weights = step_weights(self.config, trajectory)
        # An image without advantage has nothing to teach: it is left out of the model calls, and of the KL with them.
        with_signal = (advantages != 0).cpu()
        mine = self.ranks.share(len(advantages) // self.config.rollout.group_size)
        mine = range(mine.start * self.config.rollout.group_size, mine.stop * self.config.rollout.group_size)
        advantages = send(advantages[mine.start : mine.stop], self.policy.device)
        steps = 0
        reports: list[Figures] = []
        passes: dict[str, list[float]] = {}
        for number, rows in enumerate(drawn):
            self.pulse.progress("update", number, len(drawn))
            signal = rows[with_signal[rows]]
            if not len(signal):
                continue
            self.stepping = self.stepping or self.ranks.count > 1  # together they begin what they can't give up
            own = signal[(signal >= mine.start) & (signal < mine.stop)] - mine.start
            minibatch = Minibatch(trajectory, condition, advantages, own, places, len(rows), not reports, weights)
            report = self._gradient(minibatch, len(signal))
            # Mixed precision's scaler finds its own scale, and can't take a gradient twice.
            while not report.finite and self.accelerator.scaler is None and self.policy.rescale_gradients():
                report = self._gradient(minibatch, len(signal))
            if report.finite:
                self.audit.check_layers(self._first_velocity(minibatch) if len(own) else None)
                if not reports:  # nothing has left the gradient by moving too far yet
                    self.audit.check_norm(report.norm)
            reports.append(report)
            passes.setdefault(str(1 + number // self.config.optimizer.updates), []).append(report.deviation)
            self.stepping = True
            steps += self._step(report.finite)
        self.stepping = False
        if not reports:
            return UpdateReport()
        loss, _, clipped, kl, norm = (sum(values) / len(reports) for values in zip(*reports, strict=True))
        told = UpdateReport(loss, norm, forwards=sum(self.ranks.joined([self.forwards])), steps=steps)
        if self.config.loss.kl_weight > 0:
            told.kl = kl
        if trajectory.log_probs is not None:
            told.ratio_deviation, told.clip_fraction = reports[-1].deviation, clipped
            told.deviations = {name: sum(values) / len(values) for name, values in passes.items() if len(passes) > 1}
        return told

    def _first_velocity(self, minibatch: Minibatch) -> Callable[[], Tensor]:
        """The velocity at one state of a minibatch."""
        states = self.split_into_calls(minibatch, 1)[-1]
        return lambda: self.velocity(minibatch, states)

    def _gradient(self, minibatch: Minibatch, images: int) -> Figures:
        """Gradients of a minibatch, clipped, and what there is to tell of them: an update's one wait for the device."""
        report = self._over_all_ranks(minibatch, images)
        norm = gathered(self.accelerator.clip_grad_norm_(self.parameters, self.config.optimizer.max_grad_norm))
        return Figures(*torch.stack([*report, norm.to(report[0])]).tolist())

    def _over_all_ranks(self, minibatch: Minibatch, images: int) -> tuple[Tensor, ...]:
        """accumulate() of a minibatch that is spread over processes; images: how many of its have an advantage."""
        sums, own = torch.zeros(4, device=minibatch.advantages.device), len(minibatch.rows)
        self.optimizer.zero_grad()
        if own:
            loss, *means = self.accumulate(minibatch)
            sums = torch.stack([loss, *(mean * own for mean in means)])
        self.module.catch_up(backward=True)
        self.ranks.sum_gradients(self.parameters)
        loss, *totals = self.ranks.summed(sums)
        return loss, *(total / images for total in totals)

    def accumulate(self, minibatch: Minibatch) -> tuple[Tensor, ...]:
        """Its gradients, summed over window steps and model calls; (loss, mean |r - 1|, clipped share, mean KL)."""
        images = len(minibatch.rows)

        def work(size: int) -> tuple[Tensor, ...]:
            self.optimizer.zero_grad()  # of a first try that ran out of memory
            totals = torch.zeros(4, device=minibatch.advantages.device)
            for states in self.split_into_calls(minibatch, size or images):
                totals += self._backward(minibatch, states)
            loss, *sums = totals
            terms = images * len(minibatch.places)
            return loss, *(each / terms for each in sums)

        # With a size of their own, calls may hold all steps at once.
        return self.batch_size.run(work, images * len(minibatch.places) if self.batch_size.size else images)

    def split_into_calls(self, minibatch: Minibatch, size: int) -> list[list[SharedState]]:
        """The states of its images at its window steps, at most `size` a model call: each state once.

        A call holds one step, or with more room than these images need several. At the first step the images of a
        group that shares its noise are still one and the same.
        """
        group, steps = self.config.rollout.group_size, []
        for place in minibatch.places:
            alike: dict[int, SharedState] = {}
            for row in sorted(minibatch.rows.tolist()):
                same = row // group if place == 0 and minibatch.trajectory.shared_noise else row
                alike.setdefault(same, SharedState(place, row, [])).images.append(row)
            steps.append(list(alike.values()))
        if size > len(minibatch.rows):
            steps = [sum(steps, [])]
        return [states[start : start + size] for states in steps for start in range(0, len(states), size)]

    def _backward(self, minibatch: Minibatch, states: Sequence[SharedState]) -> Tensor:
        """Adds the gradient of one model call's terms; sums over them of loss, |r - 1|, clipped and KL: (4,)."""
        if not self.stepping:
            self.pulse.raise_if_stopped()  # until the first step an iteration can be given up as if not begun
        velocity = self.velocity(minibatch, states)
        base = None
        if self.config.loss.kl_weight > 0:
            with torch.no_grad(), self.policy.base():
                base = self.velocity(minibatch, states)
        loss, counts = minibatch.advantages.new_zeros(()), minibatch.advantages.new_zeros(3)
        for place, numbers in _by_place(states):
            # A state that several images share gives each of them its velocity.
            images = [image for number in numbers for image in states[number].images]
            source = [number for number in numbers for _ in states[number].images]
            rows, chosen = (self._on_device(numbers) for numbers in (images, source))
            loss_here, change, kl = self._losses(
                minibatch, place, rows, velocity[chosen], None if base is None else base[chosen]
            )
            loss = loss + loss_here * (len(images) / minibatch.terms)
            counts += torch.stack([change.sum(), (change > self.config.loss.clip_range).sum(), kl.sum()])
        self.accelerator.backward(loss * self.ranks.loss_scale)
        return torch.cat([loss.detach()[None], counts])

    def _losses(
        self, minibatch: Minibatch, place: int, rows: Tensor, velocity: Tensor, base: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean loss of some images at one step, KL to the base included; |ratio - 1| and that KL, (rows,) each."""
        options, trajectory = self.config.loss, minibatch.trajectory
        nothing = torch.zeros_like(minibatch.advantages[rows])
        if options.surrogate == "nft":
            loss, change = self._forward_process(minibatch, place, rows, velocity), nothing
        else:
            assert trajectory.log_probs is not None
            mean, std = self.step_mean(minibatch, place, rows, velocity)
            new = log_prob(trajectory.states[place + 1, rows], mean, std)
            loss = self._surrogate(minibatch, place, rows, mean, std, new)
            loss = loss * minibatch.weights[place] if minibatch.weights else loss
            change = (torch.exp(new.detach() - trajectory.log_probs[place, rows]) - 1).abs()
        if base is None:
            return loss, change, nothing
        if options.kl_space == "velocity":
            kl = velocity_kl(velocity, base)
        else:
            base_mean, _ = self.step_mean(minibatch, place, rows, base)
            sigma, sigma_next = minibatch.sigmas(place)
            exact = options.kl_space == "mean"
            kl = mean_kl(mean, base_mean, std) if exact else flow_grpo_kl(mean, base_mean, std, sigma - sigma_next)
        return loss + options.kl_weight * kl.mean(), change, kl.detach()

    def _forward_process(self, minibatch: Minibatch, place: int, rows: Tensor, velocity: Tensor) -> Tensor:
        """The mean over the rows of DiffusionNFT's objective at one noise level."""
        options, trajectory = self.config.loss, minibatch.trajectory
        assert trajectory.velocities is not None
        return nft_loss(
            velocity,
            trajectory.velocities[place, rows],
            trajectory.states[place, rows],
            trajectory.latents[rows],
            minibatch.sigmas(place)[0],
            minibatch.advantages[rows],
            options.advantage_clip,
            options.nft_beta,
        )

    def _surrogate(
        self, minibatch: Minibatch, place: int, rows: Tensor, mean: Tensor, std: float, new: Tensor
    ) -> Tensor:
        """The mean over the rows of the objective that the settings ask for; new: their log-probabilities now."""
        options, trajectory, advantages = self.config.loss, minibatch.trajectory, minibatch.advantages[rows]
        assert trajectory.log_probs is not None
        # In bf16 a rollout's and an update's calls differ by rounding that may be as large as the clip range.
        old = new.detach() if minibatch.fresh else trajectory.log_probs[place, rows]
        if options.surrogate == "clip":
            return policy_loss(new, old, advantages, options.clip_range)
        assert trajectory.means is not None  # every objective but "clip" has them kept
        shift = mean_squared_shift(mean, mean.detach() if minibatch.fresh else trajectory.means[place, rows])
        if options.surrogate == "kl_mask":
            return kl_mask_loss(new, old, shift, std, advantages, options.kl_mask_threshold)
        sigma, sigma_next = minibatch.sigmas(place)
        return ratio_norm_loss(new, old, shift, std, sigma - sigma_next, advantages, options.clip_range)

    def velocity(self, minibatch: Minibatch, states: Sequence[SharedState]) -> Tensor:
        """The present policy's velocity at some states of the window, with gradients: (states, ...)."""
        self.forwards += len(states)
        group, trajectory = self.config.rollout.group_size, minibatch.trajectory
        places, rows = [state.place for state in states], [state.row for state in states]
        levels = [minibatch.sigmas(place)[0] for place in places]
        sigma = levels[0] if len(set(places)) == 1 else self._on_device(levels)
        condition = minibatch.condition.select([row // group for row in rows])
        return self.module(trajectory.states[self._on_device(places), self._on_device(rows)], sigma, condition)

    def step_mean(self, minibatch: Minibatch, place: int, rows: Tensor, velocity: Tensor) -> tuple[Tensor, float]:
        """Mean (rows, ...) and std of a window step's transition with this velocity."""
        before = minibatch.trajectory.states[place, rows]
        return self.transition(before, velocity, *minibatch.sigmas(place), self.config.rollout.eta)

    def _on_device(self, numbers: list[int] | list[float]) -> Tensor:
        """(len(numbers),), without waiting for the device: a list as an index, or a tensor made there, does."""
        return send(torch.tensor(numbers), self.policy.device)

    def _step(self, finite: bool) -> bool:
        """Updates the adapter, unless the gradient isn't finite: one such step would spoil every weight for good."""
        scaler = self.accelerator.scaler
        # fp16's scaler skips such a step itself, and has to see it to lower its scale.
        if finite or scaler is not None:
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.pulse.tolerate(
            "gradient",
            not finite and (scaler is None or scaler.get_scale() < LEAST_SCALE),
            "A gradient isn't finite, so its update was left out: lower the learning rate or change the precision.",
        )
        return finite


def _by_place(states: Sequence[SharedState]) -> list[tuple[int, list[int]]]:
    """(place, numbers of its states) for each place among some states."""
    places: dict[int, list[int]] = {}
    for number, state in enumerate(states):
        places.setdefault(state.place, []).append(number)
    return list(places.items())
