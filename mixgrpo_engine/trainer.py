"""The loop: rollout, score, advantages, updates, checkpoint. It reads like the paper's algorithm 1."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from . import seeds
from .advantage import group_advantages
from .checkpoint import Checkpoints
from .config import TrainConfig
from .evaluation import HeldOut
from .events import Cancelled, CheckpointSaved, Done, Event, Iteration, Notice, Progress, Stage
from .micro_batches import BatchedVelocity
from .objective import policy_loss, velocity_kl
from .policy import Condition, Policy
from .prompts import PromptSet
from .rewards import Reward
from .rollout import Trajectory, rollout
from .run_folder import RunFolder
from .schedule import flash_sigmas
from .solvers import dpm_tail
from .transitions import TRANSITIONS, log_prob
from .window import SlidingWindow

PROGRESS_SECONDS = 5.0
FAILURES_IN_A_ROW = 3  # of a scorer on whole iterations, or of gradients, before the run gives up


class Stopped(Exception):
    """Raised inside an iteration when the run is asked to stop; the iteration counts as not begun."""


@dataclass
class UpdateReport:
    """What the updates of one iteration did, as 0-dim tensors until the iteration's end (one sync, not many)."""

    loss: Tensor
    grad_norm: Tensor
    ratio_deviation: Tensor
    clip_fraction: Tensor


class Trainer:
    """Trains a policy's adapter by MixGRPO (arXiv 2507.21802) and leaves everything in the run folder."""

    def __init__(
        self,
        policy: Policy,
        rewards: Mapping[str, Reward],
        prompts: PromptSet,
        config: TrainConfig,
        folder: RunFolder,
        emit: Callable[[Event], None],
        should_stop: Callable[[], bool] = lambda: False,
        weights: Mapping[str, float] | None = None,
    ):
        """rewards: by name; weights: of the rewards, equal when None. emit gets every event as it happens.

        should_stop is asked between model calls, but not once an iteration has begun to step: those updates are
        finished first. When true, run() saves a checkpoint and returns "cancelled".
        """
        config.validate()
        self.policy, self.rewards, self.weights = policy, dict(rewards), weights
        self.prompts, self.config, self.folder = prompts, config, folder
        self.emit, self.should_stop = emit, should_stop
        folder.create()

        options = config.optimizer
        self.accelerator = Accelerator(
            mixed_precision=config.run.mixed_precision, cpu=policy.device.type == "cpu", device_placement=False
        )
        self.parameters = [p for p in policy.module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            self.parameters,
            lr=options.learning_rate,
            betas=(options.beta1, options.beta2),
            weight_decay=options.weight_decay,
        )
        self.module, self.optimizer = self.accelerator.prepare(policy.module, optimizer)
        self.checkpoints = Checkpoints(folder.checkpoints, self.accelerator, policy)

        self.sigmas = policy.sigmas(config.rollout.steps, config.rollout.shift)
        self.window = sliding_window(config)
        self.transition = TRANSITIONS[config.rollout.transition]
        self.held_out = HeldOut(self, prompts.held_out) if config.run.evaluate_every else None
        self.forwards = 0
        self.train_seconds = 0.0
        self.iteration = 0  # how many are finished
        self._failures: dict[str, int] = {}  # what -> how often in a row
        self._last_progress = time.monotonic()

    # --- the run ----------------------------------------------------------------------------------------------

    def run(self) -> str:
        """Trains up to the asked iterations, from the newest checkpoint if there is one: "finished" or "cancelled"."""
        run = self.config.run
        self.iteration = saved = self._resume()
        self._clock = time.monotonic()
        try:
            self._evaluate()
            while self.iteration < run.iterations:
                self._iterate(self.iteration)
                self.iteration += 1
                if self.iteration % run.checkpoint_every == 0 or self.iteration == run.iterations:
                    self._save()
                    saved = self.iteration
                self._evaluate()
        except Stopped:
            if self.iteration > saved:
                self._save()
            self.emit(Cancelled(self.iteration, f"Cancelled after {self.iteration} of {run.iterations} iterations."))
            return "cancelled"
        self._tick()
        metadata = {"mixgrpo_run": self.folder.name, "mixgrpo_iterations": str(self.iteration)}
        self.policy.export(self.folder.lora, metadata)
        self.emit(Done(self.iteration, self.folder.lora.name, self.train_seconds))
        return "finished"

    def _iterate(self, iteration: int) -> None:
        """One iteration: algorithm 1's body."""
        config, started = self.config.rollout, time.monotonic()
        window = self.window.at(iteration)
        prompts = self.prompts.at(iteration, config.prompts_per_iteration, self.config.run.seed)
        condition = self.policy.condition(prompts)

        trajectory = self.rollout(iteration, window, condition)
        rolled_out = time.monotonic()
        rewards = self.score(trajectory.latents, [p for p in prompts for _ in range(config.group_size)])
        scored = time.monotonic()
        options = self.config.loss
        advantages = group_advantages(rewards, config.group_size, self.weights, options.mix, options.advantage_clip)
        report = self.update(iteration, trajectory, condition, advantages.to(self.policy.device))
        loss, grad_norm, ratio_deviation, clip_fraction = _floats(report)
        updated = time.monotonic()

        self._tick()
        self.emit(
            Iteration(
                iteration=iteration + 1,
                iterations=self.config.run.iterations,
                window=(window.start, window.stop),
                reward={name: float(values.nanmean()) for name, values in rewards.items()},
                reward_std=_group_spread(rewards, config.group_size),
                loss=loss,
                grad_norm=grad_norm,
                ratio_deviation=ratio_deviation,
                clip_fraction=clip_fraction,
                forwards=self.forwards,
                seconds={
                    "rollout": rolled_out - started,
                    "score": scored - rolled_out,
                    "update": updated - scored,
                    "total": time.monotonic() - started,
                },
                eta_seconds=self.train_seconds / (iteration + 1) * (self.config.run.iterations - iteration - 1),
            )
        )

    # --- its parts ---------------------------------------------------------------------------------------------

    def rollout(self, iteration: int, window: range, condition: Condition) -> Trajectory:
        """Samples a group of images for every row of the condition."""
        config, seed = self.config.rollout, self.config.run.seed
        sigmas, tail = self.sigmas, dpm_tail(config.tail_order)
        if config.flash_ratio < 1:
            shift = config.shift if config.shift > 0 else self.policy.shift()
            sigmas = flash_sigmas(sigmas, window, config.flash_ratio, shift)
        count = len(condition) * (1 if config.shared_noise else config.group_size)
        noise = self.policy.noise([seeds.derive(seed, "noise", iteration, index) for index in range(count)])
        trajectory = rollout(
            self.velocity(condition, config.batch_size),
            noise.to(self.policy.device),
            sigmas,
            window,
            transition=self.transition,
            eta=config.eta,
            group_size=config.group_size,
            tail=tail,
            generator=seeds.generator(seed, "window", iteration),
            shared_noise=config.shared_noise,
        )
        self.forwards += trajectory.forwards
        return trajectory

    def velocity(self, condition: Condition, batch_size: int, phase: str = "rollout") -> BatchedVelocity:
        """The present policy's velocity for rows of these prompts; it stops between model calls when asked to."""

        def before_call(sigma: float) -> None:
            self._raise_if_stopped()
            self.progress(phase, round(100 * (1 - sigma)), 100)

        return BatchedVelocity(self.module, condition, batch_size, before_call)

    @torch.no_grad()
    def score(self, latents: Tensor, prompts: list[str]) -> dict[str, Tensor]:
        """Decodes and scores: name -> float32 (batch,), NaN where a scorer failed or the image isn't finite.

        Raises RuntimeError when a scorer fails on every image of several iterations in a row.
        """
        images = self.policy.decode(latents)
        self._raise_if_stopped()
        self.progress("score", 0, len(images))
        broken = ~images.flatten(1).isfinite().all(1)
        scores = {}
        for name, reward in self.rewards.items():
            scores[name] = torch.as_tensor(reward.score(images, prompts), dtype=torch.float32).cpu()
            if scores[name].shape != (len(images),):
                raise RuntimeError(
                    f"The reward '{name}' gave {list(scores[name].shape)} scores for {len(images)} images: "
                    "it must give one an image."
                )
            scores[name][broken] = float("nan")
            self._tolerate(
                bool(scores[name].isnan().all()),
                f"The reward '{name}' could score none of the {len(images)} images of an iteration (first prompt: "
                f"'{prompts[0]}'). Check that it can judge these prompts.",
            )
        return scores

    def update(self, iteration: int, trajectory: Trajectory, condition: Condition, advantages: Tensor) -> UpdateReport:
        """The iteration's gradient updates, over random minibatches of all its images, none left over."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, iteration)
        order = torch.randperm(
            len(advantages), generator=seeds.generator(self.config.run.seed, "minibatches", iteration)
        )
        # An image without advantage has a zero gradient: leaving it out of the model calls changes nothing.
        with_signal = (advantages != 0).cpu()
        norms, reports = [], []
        minibatches = order.tensor_split(self.config.optimizer.updates)
        for number, rows in enumerate(minibatches):
            self.progress("update", number, len(minibatches))
            signal = rows[with_signal[rows]]
            if not len(signal):
                continue
            if not reports:
                self._raise_if_stopped()  # until the first step an iteration can be given up as if it hadn't begun
            reports.append(self._accumulate(trajectory, condition, advantages, signal, len(rows)))
            norms.append(self.accelerator.clip_grad_norm_(self.parameters, self.config.optimizer.max_grad_norm))
            self._step(norms[-1])
        if not reports:
            return UpdateReport(*torch.zeros(4))
        losses, deviations, fractions = (torch.stack(values) for values in zip(*reports, strict=True))
        return UpdateReport(losses.mean(), torch.stack(norms).mean(), deviations[-1], fractions.mean())

    def _step(self, grad_norm: Tensor) -> None:
        """Updates the adapter, unless the gradient isn't finite: one such step would spoil every weight for good."""
        finite = bool(grad_norm.isfinite())
        # fp16's scaler skips such a step itself, and has to see it to lower its scale.
        if finite or self.accelerator.scaler is not None:
            self.optimizer.step()
        self.optimizer.zero_grad()
        self._tolerate(
            not finite,
            "A gradient isn't finite, so its update was left out: lower the learning rate or change the precision.",
        )

    def _accumulate(
        self, trajectory: Trajectory, condition: Condition, advantages: Tensor, rows: Tensor, minibatch: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of one minibatch, summed over window steps and micro-batches; (loss, |r - 1|, clipped share)."""
        steps, clip_range = len(trajectory.window), self.config.loss.clip_range
        loss_sum = deviation = clipped = torch.zeros((), device=advantages.device)
        for part in rows.split(self.config.optimizer.batch_size or len(rows)):
            prompts = condition.select([int(row) // self.config.rollout.group_size for row in part])
            part = part.to(advantages.device)
            for place, step in enumerate(trajectory.window):
                velocity = self.state_velocity(trajectory, place, step, part, prompts)
                new = self.log_prob(trajectory, place, step, part, velocity)
                old = trajectory.log_probs[place, part]
                loss = policy_loss(new, old, advantages[part], clip_range)
                if self.config.loss.kl_weight > 0:
                    with torch.no_grad(), self.policy.base():
                        base_velocity = self.state_velocity(trajectory, place, step, part, prompts)
                    self.forwards += len(part)
                    loss = loss + self.config.loss.kl_weight * velocity_kl(velocity, base_velocity).mean()
                loss = loss * (len(part) / (minibatch * steps))
                self.accelerator.backward(loss)
                self.forwards += len(part)
                change = (torch.exp(new.detach() - old) - 1).abs()
                share = len(part) / (len(rows) * steps)
                loss_sum = loss_sum + loss.detach()
                deviation = deviation + change.mean() * share
                clipped = clipped + (change > clip_range).float().mean() * share
        return loss_sum, deviation, clipped

    def state_velocity(
        self, trajectory: Trajectory, place: int, step: int, rows: Tensor, prompts: Condition
    ) -> Tensor:
        """The present policy's velocity at the states before window step `step`, with gradients."""
        return self.module(trajectory.states[place, rows], float(trajectory.sigmas[step]), prompts)

    def log_prob(self, trajectory: Trajectory, place: int, step: int, rows: Tensor, velocity: Tensor) -> Tensor:
        """log pi(next state | state) of window step `step` with this velocity: (rows,)."""
        sigma, sigma_next = float(trajectory.sigmas[step]), float(trajectory.sigmas[step + 1])
        state, after = trajectory.states[place, rows], trajectory.states[place + 1, rows]
        mean, std = self.transition(state, velocity, sigma, sigma_next, self.config.rollout.eta)
        return log_prob(after, mean, std)

    # --- state and signs of life ---------------------------------------------------------------------------------

    def progress(self, phase: str, done: int, total: int) -> None:
        """Tells that the run is alive, at most every few seconds."""
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_SECONDS:
            self._last_progress = now
            self.emit(Progress(self.iteration, self.config.run.iterations, phase, done, total))

    def _tolerate(self, failed: bool, message: str) -> None:
        """Tells of a failure the first times, and raises RuntimeError when it comes several times in a row."""
        count = self._failures[message[:24]] = self._failures.get(message[:24], 0) + 1 if failed else 0
        if count >= FAILURES_IN_A_ROW:
            raise RuntimeError(f"{message} This happened {count} times in a row.")
        if failed:
            self.emit(Notice(self.iteration, message))

    def _evaluate(self) -> None:
        """Scores the held-out prompts when it is due; after a resume also what a kill has left undone."""
        run = self.config.run
        due = self.held_out and (self.iteration % run.evaluate_every == 0 or self.iteration == run.iterations)
        if due and not self.held_out.has_been_done(self.iteration):
            self.held_out.evaluate(self.iteration)

    def _resume(self) -> int:
        progress = self.checkpoints.load_newest(lambda message: self.emit(Notice(0, message)))
        if progress is None:
            return 0
        self.forwards, self.train_seconds = progress["forwards"], progress["train_seconds"]
        self.emit(Stage("resume", f"Resumed after iteration {progress['iteration']}."))
        return progress["iteration"]

    def _save(self) -> None:
        self._tick()
        progress = {"forwards": self.forwards, "train_seconds": self.train_seconds}
        path = self.checkpoints.save(self.iteration, progress)
        self.emit(CheckpointSaved(self.iteration, path.relative_to(self.folder.path).as_posix()))

    def _tick(self) -> None:
        now = time.monotonic()
        self.train_seconds += now - self._clock
        self._clock = now

    def _raise_if_stopped(self) -> None:
        if self.should_stop():
            raise Stopped


def learning_rate(config: TrainConfig, iteration: int) -> float:
    """The learning rate of an iteration (0-based)."""
    options = config.optimizer
    left = 1 - iteration / config.run.iterations if options.schedule == "linear" else 1.0
    return options.learning_rate * left


def sliding_window(config: TrainConfig) -> SlidingWindow:
    """The window that a run's settings ask for."""
    w, steps = config.window, config.rollout.steps
    if w.max_start >= 0:
        steps = min(steps, w.max_start + w.size + 1)
    return SlidingWindow(steps, w.size, w.stride, w.interval, w.strategy, config.run.seed, w.wrap)


def _group_spread(rewards: Mapping[str, Tensor], group_size: int) -> float:
    """Mean over rewards and groups of the standard deviation inside a group, failed scores left out."""
    groups = torch.stack(list(rewards.values())).unflatten(1, (-1, group_size))
    centred = groups - groups.nanmean(-1, keepdim=True)
    return float(centred.square().nanmean(-1).sqrt().nanmean())


def _floats(report: UpdateReport) -> list[float]:
    values = torch.stack([report.loss, report.grad_norm, report.ratio_deviation, report.clip_fraction])
    return values.tolist()
