"""The first half of an iteration: groups of images are sampled and scored."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import seeds
from ..config import TrainConfig
from ..distributed.lockstep import Lockstep
from ..distributed.ranks import Ranks
from ..memory.micro_batches import BatchedVelocity, BatchSize
from ..policy import Condition, Policy
from ..rewards import Reward, checked_scores, failures
from ..rollout import Trajectory, join, rollout
from ..schedule import flash_sigmas
from ..solvers import dpm_tail
from .pulse import Pulse, Stopped

WAIT_SECONDS = 0.5  # between two looks whether a run that waits for a scorer is to stop
REASONS_TOLD = 2  # of the sentences of a scorer about one iteration


@dataclass
class Experience:
    """What an iteration learns from. Images of a prompt stand side by side."""

    trajectory: Trajectory  # of this process's prompts
    prompts: range  # which of the iteration's these are
    rewards: dict[str, Tensor]  # of all prompts: name -> float32 (batch,), NaN where the image could not be scored
    score_seconds: float  # spent on decoding, and on waiting for scores, in this process


class Sampler:
    """Rolls out the present policy and scores its images."""

    def __init__(
        self,
        policy: Policy,
        module: Lockstep,
        rewards: Mapping[str, Reward],
        config: TrainConfig,
        pulse: Pulse,
        ranks: Ranks,
    ):
        """module: the policy's, as accelerate prepared it."""
        self.policy, self.module, self.rewards = policy, module, rewards
        self.config, self.pulse, self.ranks = config.rollout, pulse, ranks
        self.seed = config.run.seed
        self.sigmas = policy.sigmas(self.config.steps, self.config.shift)
        self.keep_means = config.loss.surrogate != "clip"
        name = "settings.rollout.batch_size" if ranks.split else "rollout_batch_size"
        self.batch_size = BatchSize(self.config.batch_size, name, pulse.notice, alone=not ranks.split)
        self._scoring = _scoring_thread(policy.device)
        for reward in rewards.values():
            # One of several processes can't stop by itself.
            if hasattr(reward, "check") and ranks.count == 1:
                reward.check = self._while_scoring

    def collect(self, iteration: int, window: range, prompts: Sequence[str]) -> Experience:
        """Samples and scores a group for each of this process's share of the prompts; the rewards are of all prompts.

        With a rollout batch size the prompts are rolled out in parts, and a part is scored while the next one is
        sampled. Every image has a noise of its own seed: how they are split up changes nothing but the rounding.
        """
        size, mine = self.config.group_size, self.ranks.share(len(prompts))
        trajectory, scores, score_seconds, stopped = None, None, 0.0, False
        try:
            trajectory, scores, score_seconds = self.batch_size.run(
                lambda batch: self._collect(
                    iteration, window, prompts, mine, max(1, batch // size) if batch else len(mine)
                ),
                len(mine) * size,
            )
        except Stopped:
            stopped = True
        self.module.catch_up()
        if self.ranks.any(stopped):  # one of several can't stop alone: the others would wait for it
            raise Stopped
        rewards = self.ranks.joined_rows(scores.values)
        self._check(rewards, self._joined_failures(scores), prompts)
        return Experience(trajectory, mine, rewards, score_seconds)

    def _collect(
        self, iteration: int, window: range, prompts: Sequence[str], mine: range, at_once: int
    ) -> tuple[Trajectory, Scores, float]:
        """`at_once` prompts a rollout; the seconds are those spent on decoding, and on waiting for scores."""
        trajectories, scores, score_seconds = [], [], 0.0
        try:
            for start in range(mine.start, mine.stop, at_once):
                part = prompts[start : min(start + at_once, mine.stop)]
                trajectories.append(self.rollout(iteration, window, self.policy.condition(part), start))
                rolled_out = time.monotonic()
                scores += self._score_later(trajectories[-1], part)
                score_seconds += time.monotonic() - rolled_out
            rolled_out = time.monotonic()
            scored = [self._when_done(later) for later in scores]
            score_seconds += time.monotonic() - rolled_out
        finally:
            for later in scores:
                later.cancel()
        values = {name: torch.cat([each.values[name] for each in scored]) for name in self.rewards}
        failures = {name: [reason for each in scored for reason in each.failures[name]] for name in self.rewards}
        return join(trajectories), Scores(values, failures), score_seconds

    def _while_scoring(self) -> None:
        self.pulse.raise_if_stopped()
        if isinstance(self._scoring, _AtOnce):  # else this thread says it while it waits
            self.pulse.progress("score", 0, 1)

    def _when_done(self, later: Future[Scores]) -> Scores:
        """A scorer may take long, a judge at the other end of a network for one: the run stays alive and stoppable."""
        while not wait([later], timeout=WAIT_SECONDS).done:
            self.pulse.raise_if_stopped()
            self.pulse.progress("score", 0, 1)
        return later.result()

    def _joined_failures(self, scores: Scores) -> dict[str, list[str]]:
        return {name: self.ranks.joined(scores.failures[name]) for name in self.rewards}

    def rollout(self, iteration: int, window: range, condition: Condition, first: int = 0) -> Trajectory:
        """Samples a group of images for every row of the condition; first: the first row's number in the iteration."""
        config, sigmas = self.config, self.sigmas
        if config.flash_ratio < 1:
            shift = config.shift if config.shift > 0 else self.policy.shift()
            sigmas = flash_sigmas(sigmas, window, config.flash_ratio, shift)
        images = range(first * config.group_size, (first + len(condition)) * config.group_size)
        starts = range(first, first + len(condition)) if config.shared_noise else images
        noise = self.policy.noise([seeds.derive(self.seed, "noise", iteration, index) for index in starts])
        return rollout(
            self.velocity(condition, self.batch_size.size),
            noise.to(self.policy.device),
            sigmas,
            window,
            transition=config.transition,
            eta=config.eta,
            group_size=config.group_size,
            tail=dpm_tail(config.tail_order, config.tail_variant),
            generator=[seeds.generator(self.seed, "window", iteration, image) for image in images],
            shared_noise=config.shared_noise,
            keep_means=self.keep_means,
        )

    def velocity(self, condition: Condition, batch_size: int, phase: str = "rollout") -> BatchedVelocity:
        """The present policy's velocity for rows of these prompts; it stops between model calls when asked to."""

        def before_call(sigma: float) -> None:
            self.pulse.raise_if_stopped()
            self.pulse.progress(phase, round(100 * (1 - sigma)), 100)

        return BatchedVelocity(self.module, condition, batch_size, before_call)

    def _score_later(self, trajectory: Trajectory, prompts: Sequence[str]) -> list[Future[Scores]]:
        """Decodes now, where the model runs; scores a group while the next one is decoded, or at once on the CPU."""
        size, scores = self.config.group_size, []
        for group, prompt in enumerate(prompts):
            images = self.policy.decode(trajectory.latents[group * size : (group + 1) * size])
            self.pulse.raise_if_stopped()
            self.pulse.progress("score", group, len(prompts))
            scores.append(self._scoring.submit(score_images, self.rewards, images, [prompt] * size))
        return scores

    def _check(self, rewards: Mapping[str, Tensor], reasons: Mapping[str, list[str]], prompts: Sequence[str]) -> None:
        """Tells of images without a score. Raises RuntimeError when a scorer fails on every image of several
        iterations in a row."""
        for name, scores in rewards.items():
            failed, reason = int(scores.isnan().sum()), and_why(reasons[name])
            all_failed = failed == len(scores)
            self.pulse.tolerate(
                f"reward {name}",
                all_failed,
                f"The reward '{name}' could score none of the {len(scores)} images of an iteration (first prompt: "
                f"'{prompts[0]}'). {reason or 'Check that it can judge these prompts.'}",
            )
            if failed and reason and not all_failed:
                self.pulse.notice(f"The reward '{name}' couldn't score {failed} of {len(scores)} images. {reason}")


def _scoring_thread(device: torch.device) -> Executor:
    """Where scorers run. One thread, since they need not be thread-safe among themselves.

    With the policy on the CPU there is nothing to gain from a thread, and much to lose: a second thread that uses
    torch brings its own team of OpenMP threads, and once there are more of them than cores every barrier in the
    process sleeps instead of spinning (measured: model calls three times as slow from then on).
    """
    return _AtOnce() if device.type == "cpu" else ThreadPoolExecutor(1, "mixgrpo-score")


class _AtOnce(Executor):
    """Does the work when it is submitted, in the caller's thread."""

    def submit(self, work, /, *args, **kwargs) -> Future:
        done: Future = Future()
        done.set_result(work(*args, **kwargs))
        return done


@dataclass
class Scores:
    """What scorers say of some images."""

    values: dict[str, Tensor]  # scorer -> float32 (batch,), on the CPU; NaN: no score
    failures: dict[str, list[str]]  # scorer -> why there is none, sentences


@torch.no_grad()
def score_images(rewards: Mapping[str, Reward], images: Tensor, prompts: Sequence[str]) -> Scores:
    """Scores by every scorer; NaN where one failed, gave infinity, or got an image that isn't finite.

    Raises ValueError for a scorer that doesn't give one number an image.
    """
    scores = Scores({}, {})
    for name, reward in rewards.items():
        scores.values[name] = checked_scores(reward, images, prompts)
        scores.failures[name] = failures(reward)
    return scores


def and_why(reasons: Sequence[str]) -> str:
    """The first few different reasons as one text."""
    different = list(dict.fromkeys(reasons))
    more = f" (and {len(different) - REASONS_TOLD} other reasons)" if len(different) > REASONS_TOLD else ""
    return " ".join(different[:REASONS_TOLD]) + more
