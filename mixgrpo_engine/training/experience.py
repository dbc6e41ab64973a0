"""The first half of an iteration: groups of images are sampled and scored."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from .. import seeds
from ..config import RolloutConfig, TrainConfig
from ..distributed.lockstep import Lockstep
from ..distributed.ranks import Ranks
from ..forward_process import forward_rollout
from ..memory.micro_batches import BatchedVelocity, BatchSize
from ..policy import Condition, Policy
from ..prompts import PromptSet
from ..rewards import Reward, abstains, uses_policy
from ..rewards.references import References, uses_references
from ..rewards.scoring import ScoresByName, and_why, score_by_each
from ..rollout import Trajectory, Velocity, join, rollout, sample_ode
from ..schedule import diffusers_sigmas, flash_sigmas
from ..solvers import DPMSolverPP, dpm_tail
from .pulse import Pulse, Stopped
from .update_plan import trained_places

Given = ParamSpec("Given")
Result = TypeVar("Result")

WAIT_SECONDS = 0.5  # between two looks whether a run that waits for a scorer is to stop


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
        prompts: PromptSet,
        config: TrainConfig,
        pulse: Pulse,
        ranks: Ranks,
    ) -> None:
        """module: the policy's, as accelerate prepared it."""
        self.policy, self.module, self.rewards, self.prompts = policy, module, rewards, prompts
        self.config, self.pulse, self.ranks = config.rollout, pulse, ranks
        self.seed, self.frames = config.run.seed, config.run.frames
        self.sigmas = policy_sigmas(policy, self.config)
        self.surrogate = config.loss.surrogate
        self.trained_places = partial(trained_places, config)
        name = "settings.rollout.batch_size" if ranks.split else "rollout_batch_size"
        self.batch_size = BatchSize(self.config.batch_size, name, pulse.notice, alone=not ranks.split)
        self._scoring = _scoring_thread(policy.device, rewards.values())
        self._remarked: set[str] = set()

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
        assert trajectory is not None and scores is not None
        rewards = self.ranks.joined_rows(scores.values)
        self._check(rewards, self._joined_failures(scores), prompts)
        return Experience(trajectory, mine, rewards, score_seconds)

    def _collect(
        self, iteration: int, window: range, prompts: Sequence[str], mine: range, at_once: int
    ) -> tuple[Trajectory, ScoresByName, float]:
        """`at_once` prompts a rollout; the seconds are those spent on decoding, and on waiting for scores."""
        trajectories, scores, score_seconds = [], [], 0.0
        try:
            for start in range(mine.start, mine.stop, at_once):
                part = prompts[start : min(start + at_once, mine.stop)]
                trajectories.append(self.rollout(iteration, window, part, start))
                rolled_out = time.monotonic()
                scores += self._score_later(trajectories[-1], part)
                score_seconds += time.monotonic() - rolled_out
            rolled_out = time.monotonic()
            scored = [self._when_done(later) for later in scores]
            score_seconds += time.monotonic() - rolled_out
        finally:
            for later in scores:
                later.cancel()
        for remark in dict.fromkeys(remark for each in scored for remark in each.remarks):
            self._remark(remark)
        values = {name: torch.cat([each.values[name] for each in scored]) for name in self.rewards}
        failures = {name: [reason for each in scored for reason in each.failures[name]] for name in self.rewards}
        return join(trajectories), ScoresByName(values, failures), score_seconds

    def score(self, rewards: Mapping[str, Reward], images: Tensor, prompts: Sequence[str]) -> ScoresByName:
        """Scores by these scorers, which stop when the run is asked to; prompts as PromptSet names them."""
        # One of several processes can't stop by itself.
        ask = self._while_scoring if self.ranks.count == 1 else _go_on
        texts, references = self.told(rewards, prompts)
        return score_by_each(rewards, images, texts, ask, references)

    def told(self, rewards: Mapping[str, Reward], prompts: Sequence[str]) -> tuple[list[str], list[References] | None]:
        """What scorers get of prompts: their words, and what their images were made from, if any of them looks."""
        seen = any(map(uses_references, rewards.values()))
        return [self.prompts.text(prompt) for prompt in prompts], self.prompts.references(prompts) if seen else None

    def _while_scoring(self) -> None:
        self.pulse.raise_if_stopped()
        if isinstance(self._scoring, _AtOnce):  # else this thread says it while it waits
            self.pulse.progress("score", 0, 1)

    def _when_done(self, later: Future[ScoresByName]) -> ScoresByName:
        """A scorer may take long, a judge at the other end of a network for one: the run stays alive and stoppable."""
        while not wait([later], timeout=WAIT_SECONDS).done:
            self.pulse.raise_if_stopped()
            self.pulse.progress("score", 0, 1)
        return later.result()

    def _remark(self, sentence: str) -> None:
        """Told once, whatever numbers it has."""
        kind = re.sub(r"\d+", "", sentence)
        if kind not in self._remarked:
            self._remarked.add(kind)
            self.pulse.notice(sentence)

    def _joined_failures(self, scores: ScoresByName) -> dict[str, list[str]]:
        return {name: self.ranks.joined(scores.failures[name]) for name in self.rewards}

    def rollout(self, iteration: int, window: range, prompts: Sequence[str], first: int = 0) -> Trajectory:
        """Samples a group of images for each of the prompts; first: the first one's number in the iteration."""
        config, sigmas = self.config, self.sigmas
        if config.flash_ratio < 1:
            shift = config.shift if config.shift > 0 else self.policy.shift()
            sigmas = flash_sigmas(sigmas, window, config.flash_ratio, shift)
        images = range(first * config.group_size, (first + len(prompts)) * config.group_size)
        starts = range(first, first + len(prompts)) if config.shared_noise else images
        noise = self.policy.noise(seeds.start_seeds(self.seed, iteration, starts), prompts[0]).to(self.policy.device)
        velocity = self.velocity(self.policy.condition(prompts), self.batch_size.size)
        solver = dpm_tail(config.tail_order, config.tail_variant)
        generators = seeds.window_generators(self.seed, iteration, images)
        if self.surrogate == "nft":
            places = self.trained_places(len(window), iteration)
            return forward_rollout(velocity, noise, sigmas, window, places, generators=generators, solver=solver)
        return rollout(
            velocity,
            noise,
            sigmas,
            window,
            transition=config.transition,
            eta=config.eta,
            group_size=config.group_size,
            tail=solver,
            generator=generators,
            shared_noise=config.shared_noise,
            keep_means=self.surrogate != "clip",
        )

    def velocity(self, condition: Condition, batch_size: int, phase: str = "rollout") -> BatchedVelocity:
        """The present policy's velocity for rows of these prompts; it stops between model calls when asked to."""

        def before_call(sigma: float) -> None:
            self.pulse.raise_if_stopped()
            self.pulse.progress(phase, round(100 * (1 - sigma)), 100)

        return BatchedVelocity(self.module, condition, batch_size, before_call)

    def sample(self, prompts: Sequence[str], noise_seeds: Sequence[int], phase: str, steps: int = 0) -> Tensor:
        """One image a prompt without any randomness but its seed's: (prompts, height, width, 3), in one model call.

        The prompts are of one shape.

        steps: see sample_held_out().
        """
        noise = self.policy.noise(noise_seeds, prompts[0]).to(self.policy.device)
        velocity = self.velocity(self.policy.condition(prompts), batch_size=0, phase=phase)
        return self.policy.decode(sample_held_out(velocity, noise, self.policy, self.config, steps))

    def _score_later(self, trajectory: Trajectory, prompts: Sequence[str]) -> list[Future[ScoresByName]]:
        """Decodes now, where the model runs; scores a group while the next one is decoded, or at once on the CPU."""
        size, scores = self.config.group_size, []
        for group, prompt in enumerate(prompts):
            images = self.policy.decode(trajectory.latents[group * size : (group + 1) * size])
            self.pulse.raise_if_stopped()
            self.pulse.progress("score", group, len(prompts))
            scores.append(self._scoring.submit(self.score, self.rewards, images, [prompt] * size))
        return scores

    def _check(self, rewards: Mapping[str, Tensor], reasons: Mapping[str, list[str]], prompts: Sequence[str]) -> None:
        """Tells of images without a score. Raises RuntimeError when a scorer fails on every image of several
        iterations in a row."""
        for name, scores in rewards.items():
            failed, reason = int(scores.isnan().sum()), and_why(reasons[name])
            all_failed = failed == len(scores)
            if all_failed and abstains(self.rewards[name]):
                self._remark(f"Nothing was learned from an iteration by the reward '{name}'. {reason}")
                continue
            self.pulse.tolerate(
                f"reward {name}",
                all_failed,
                f"The reward '{name}' could score none of the {len(scores)} images of an iteration (first prompt: "
                f"'{prompts[0]}'). {reason or 'Check that it can judge these prompts.'}",
            )
            if failed and reason and not all_failed:
                self.pulse.notice(f"The reward '{name}' couldn't score {failed} of {len(scores)} images. {reason}")


def _scoring_thread(device: torch.device, rewards: Iterable[Reward] = ()) -> Executor:
    """Where scorers run. One thread, since they need not be thread-safe among themselves; none for who calls the model.

    With the policy on the CPU there is nothing to gain from a thread, and much to lose: a second thread that uses
    torch brings its own team of OpenMP threads, and once there are more of them than cores every barrier in the
    process sleeps instead of spinning (measured: model calls three times as slow from then on).
    """
    return _AtOnce() if device.type == "cpu" or any(map(uses_policy, rewards)) else _InThread()


def _go_on() -> None:
    """For scorers that nobody stops."""


class _InThread(Executor):
    """One thread, which never keeps the process alive, as ThreadPoolExecutor's do: a scorer may never return."""

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Future, Callable[[], object]]] = SimpleQueue()
        Thread(target=self._serve, name="mixgrpo-score", daemon=True).start()

    def submit(self, work: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Result]:
        later: Future[Result] = Future()
        self._work.put((later, lambda: work(*args, **kwargs)))
        return later

    def _serve(self) -> None:
        while True:
            later, work = self._work.get()
            if later.set_running_or_notify_cancel():
                try:
                    later.set_result(work())
                except BaseException as error:  # whatever it is, it is raised where the scores are waited for
                    later.set_exception(error)
            del later, work  # images are large


class _AtOnce(Executor):
    """Does the work when it is submitted, in the caller's thread."""

    def submit(self, work: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Result]:
        done: Future[Result] = Future()
        done.set_result(work(*args, **kwargs))
        return done


def sample_held_out(velocity: Velocity, noise: Tensor, policy: Policy, options: RolloutConfig, steps: int) -> Tensor:
    """Latents by so many second-order steps; 0: by the training's steps of Euler."""
    if not steps:
        return sample_ode(velocity, noise, policy_sigmas(policy, options))
    sigmas = policy_sigmas(policy, dataclasses.replace(options, steps=steps))
    return sample_ode(velocity, noise, sigmas, DPMSolverPP(2))


def policy_sigmas(policy: Policy, options: RolloutConfig) -> Tensor:
    """The noise levels that a policy is trained and evaluated at."""
    if options.spacing == "diffusers":
        return diffusers_sigmas(options.steps, options.shift or policy.shift())
    return policy.sigmas(options.steps, options.shift)
