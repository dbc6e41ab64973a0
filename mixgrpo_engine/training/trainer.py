"""The loop: rollout, score, advantages, updates, checkpoint. It reads like the paper's algorithm 1."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..advantage import group_advantages
from ..config import TrainConfig
from ..deterministic import same_bits
from ..distributed import sharding
from ..distributed.lockstep import Lockstep
from ..distributed.ranks import Ranks
from ..memory.in_use import in_use
from ..policy import Policy
from ..prompts import PromptSet
from ..records.events import Cancelled, CheckpointSaved, Done, Event, Iteration, Lora, Schedule, Stage, of_types
from ..records.files import remove
from ..records.grid import stills, to_bytes
from ..records.last_words import not_learned
from ..records.run_folder import RunFolder
from ..records.samples import NewestGroup
from ..rewards import Reward
from .adapter_average import AdapterAverage
from .checkpoint import AVERAGE, OLD, Checkpoints
from .compiled_blocks import compile_ahead
from .evaluation import HeldOut, Judges
from .experience import Experience, Sampler
from .policy_update import PolicyUpdate
from .pulse import Pulse, Stopped
from .time_left import TimeLeft
from .update_plan import learning_rate


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
        watched: Mapping[str, Reward] | None = None,
        watched_weights: Mapping[str, float] | None = None,
    ) -> None:
        """rewards: by name; weights: of the rewards, equal when None. emit gets every event as it happens.

        watched: rewards that nothing is learned from, only scored on the held-out prompts: a trained reward that
        rises while they fall is being hacked. They choose the best LoRA (by their mean, weighted by watched_weights),
        which is kept beside the last.
        should_stop is asked between model calls, but not once an iteration has begun to step: those updates are
        finished first. When true, run() saves a checkpoint and returns "cancelled".
        """
        config.validate()
        self.policy, self.rewards, self.weights = policy, dict(rewards), weights
        self.prompts, self.config, self.folder = prompts, config, folder
        options = config.optimizer
        self.accelerator = sharding.make_accelerator(config.run.mixed_precision, cpu=policy.device.type == "cpu")
        sharding.check_launch(config.adapter.kind)
        self.ranks = Ranks(self.accelerator)
        self.drawn = prompts.drawn(config.run.iterations, config.rollout.prompts_per_iteration, config.run.seed)
        check_ranks(config, self.ranks.count, {policy.shape_of(prompt) for prompt in self.drawn})
        # One writes: events, checkpoints and files are the main process's.
        self.emit = emit if self.ranks.is_main else _silent
        folder.create()
        if self.ranks.is_main:
            folder.remove_unfinished()
        optimizer = torch.optim.AdamW(
            _trained(policy.module),
            lr=options.learning_rate,
            betas=(options.beta1, options.beta2),
            weight_decay=options.weight_decay,
        )
        if self.ranks.split:
            self.module, self.optimizer = sharding.prepare(self.accelerator, policy.module, optimizer)
        else:
            # evaluation_mode: no DistributedDataParallel around it. That would reduce gradients at every backward
            # pass, and an update has several; ranks.py does it once.
            self.module = self.accelerator.prepare_model(policy.module, evaluation_mode=True)
            self.optimizer = self.accelerator.prepare_optimizer(optimizer)
            self.ranks.spread(_trained(policy.module))
        self.parameters = _trained(policy.module)
        _allocate_averages(self.optimizer, self.parameters)
        self.lockstep = Lockstep(self.module, self.ranks, self._spare_call)
        self.average = AdapterAverage(self.parameters, options.ema_decay) if options.ema_decay else None
        self.old = _old_policy(self.parameters, config)
        averages = {AVERAGE: self.average, OLD: self.old}
        # All weights would be written twice, and are no LoRA.
        export = None if config.adapter.kind == "full" else self._export_averaged
        self.checkpoints = Checkpoints(
            folder.checkpoints,
            self.accelerator,
            policy,
            {name: each for name, each in averages.items() if each},
            split=self.ranks.split,
            export=export,
        )

        self.window = config.sliding_window()
        self.pulse = Pulse(self.emit, should_stop, config.run.iterations)
        self.newest_group = NewestGroup(folder)
        self.sampler = Sampler(policy, self.lockstep, self.rewards, prompts, config, self.pulse, self.ranks)
        self.updates = PolicyUpdate(
            policy, self.lockstep, self.parameters, self.optimizer, self.accelerator, config, self.pulse, self.ranks
        )
        self.held_out = None
        if config.run.evaluate_every or config.run.sample_every:
            judges = Judges.of(self.rewards, weights, watched or {}, watched_weights)
            self.held_out = HeldOut(self.sampler, judges, prompts, config, folder, self.pulse, self.ranks, self.export)
        self.forwards = 0
        self.train_seconds, self.time_left = 0.0, TimeLeft(config.run)
        self.iteration = 0  # how many are finished
        self._clock = time.monotonic()
        self._saving = False

    def run(self) -> str:
        """Trains up to the asked iterations, from the newest checkpoint if there is one: "finished" or "cancelled".

        Whatever a scorer or a model raises ends it; iterations finished by then are saved first.
        """
        with same_bits(self.config.run.deterministic):
            return self._run()

    def _run(self) -> str:
        run = self.config.run
        self.iteration = saved = self._resume()
        self._tell_schedule()
        self._clock = time.monotonic()  # what follows counts as training time
        try:
            if run.compile_blocks:
                compile_ahead(self.policy, self.lockstep, self.drawn[0], self.config, self.pulse, self.ranks)
                self._clock = time.monotonic()
            self._evaluate()
            while self.iteration < run.iterations:
                self.step()
                asked = self.ranks.main(self.folder.save_file.exists())
                if asked or self.iteration % run.checkpoint_every == 0 or self.iteration == run.iterations:
                    self._save()
                    saved = self.iteration
                if asked:
                    self._save_lora()
                self._evaluate()
        except Stopped:
            if self.iteration > saved:
                self._save()
            self.emit(Cancelled(self.iteration, f"Cancelled after {self.iteration} of {run.iterations} iterations."))
            return "cancelled"
        except Exception:  # whatever it is, it is raised again: what was finished is only kept before
            # With several processes the others may be waiting elsewhere, and saving takes all of them.
            if self.iteration > saved and not self.updates.stepping and self.ranks.count == 1:
                self._rescue(saved)
            raise
        self._tick()
        self._export_averaged(self.folder.lora)
        self.ranks.wait()
        words = not_learned(of_types(self.folder.events, "iteration", "evaluation")) if self.ranks.is_main else ""
        self.emit(Done(self.iteration, self.folder.lora.name, self.train_seconds, words))
        return "finished"

    def step(self) -> None:
        """The next iteration: algorithm 1's body. Nothing is evaluated or saved."""
        self.pulse.iteration = iteration = self.iteration
        config, started = self.config, time.monotonic()
        window = self.window.at(iteration)
        prompts = self.prompts.at(iteration, config.rollout.prompts_per_iteration, config.run.seed)

        with self.old.applied() if self.old else nullcontext():
            experience = self.sampler.collect(iteration, window, prompts)
        collected = time.monotonic()
        advantages = group_advantages(
            experience.rewards,
            config.rollout.group_size,
            self.weights,
            config.loss.mix,
            config.loss.advantage_clip,
            config.loss.spread,
        )
        self._show_group(iteration + 1, window, prompts, experience, advantages)
        mine = [prompts[index] for index in experience.prompts]
        report = self.updates.update(iteration, experience.trajectory, self.policy.condition(mine), advantages)
        for average in (self.average, self.old):
            if average:
                average.update()
        ended = time.monotonic()
        self.time_left.iterations.took(ended - started)

        self.forwards += sum(self.ranks.joined([experience.trajectory.forwards])) + report.forwards
        self.iteration += 1
        self._tick()
        self.emit(
            Iteration(
                iteration=iteration + 1,
                iterations=config.run.iterations,
                window=(window.start, window.stop),
                reward={name: float(values.nanmean()) for name, values in experience.rewards.items()},
                reward_std=_group_spread(experience.rewards, config.rollout.group_size),
                loss=report.loss,
                grad_norm=report.grad_norm,
                updates=report.steps,
                ratio_deviation=report.ratio_deviation,
                deviations=report.deviations,
                clip_fraction=report.clip_fraction,
                learning_rate=learning_rate(config, iteration),
                kl=report.kl,
                images=len(advantages),
                memory=in_use(self.policy.device),
                forwards=self.forwards,
                seconds={
                    "rollout": collected - started - experience.score_seconds,
                    "score": experience.score_seconds,
                    "update": ended - collected,
                    "total": ended - started,
                },
                eta_seconds=self.time_left.seconds(iteration + 1),
            )
        )

    def finishing(self) -> bool:
        """Whether it is at something that a stop waits for: an iteration's update steps, or saving. For any thread."""
        return self.updates.stepping or self._saving

    def averaged(self) -> AbstractContextManager:
        """Inside it the adapter is what is evaluated and saved as LoRA: its average, if the settings ask for one."""
        return self.average.applied() if self.average else nullcontext()

    def export(self, path: Path) -> None:
        """Writes what is trained for its users. All processes call it; the main one writes."""
        if self.ranks.is_main or self.ranks.split:
            self.policy.export(path, self.metadata())

    def _export_averaged(self, path: Path) -> None:
        with self.averaged():
            self.export(path)

    def metadata(self) -> dict[str, str]:
        """What a LoRA file says of where it comes from."""
        return {"mixgrpo_run": self.folder.name, "mixgrpo_iterations": str(self.iteration)}

    def _evaluate(self) -> None:
        """Scores the held-out prompts, or samples some, when due; after a resume also what a kill has left undone."""
        run = self.config.run
        self.pulse.iteration = self.iteration
        if self.held_out is None:
            return
        due = self.iteration % (run.evaluate_every or run.sample_every) == 0 or self.iteration == run.iterations
        if due and not self.ranks.main(self.held_out.has_been_done(self.iteration)):
            started = time.monotonic()
            with self.averaged():
                if run.evaluate_every:
                    self.held_out.evaluate(self.iteration)
                else:
                    self.held_out.sample(self.iteration)
            self.time_left.evaluations.took(time.monotonic() - started)

    def _resume(self) -> int:
        newest = self.checkpoints.complete()[-1:]
        progress = self.checkpoints.load_newest(self.pulse.notice)
        if progress is None:
            return 0
        if newest != self.checkpoints.complete()[-1:]:  # it was damaged: the status counts on the one before from now
            self._tell_saved(progress["iteration"], self.checkpoints.complete()[-1])
        self.forwards, self.train_seconds = progress["forwards"], progress["train_seconds"]
        self.emit(Stage("resume", f"Resumed after iteration {progress['iteration']}."))
        return progress["iteration"]

    def _save(self) -> None:
        self._tick()
        progress = {"forwards": self.forwards, "train_seconds": self.train_seconds}
        self._saving = True
        try:
            self._tell_saved(self.iteration, self.checkpoints.save(self.iteration, progress))
        finally:
            self._saving = False

    def _tell_saved(self, iteration: int, path: Path) -> None:
        self.emit(CheckpointSaved(iteration, path.relative_to(self.folder.path).as_posix()))

    def _save_lora(self) -> None:
        """The LoRA of now, for who has asked for it by a file named `save`."""
        if self.ranks.is_main:
            remove(self.folder.save_file)  # first: whoever hears of this LoRA may ask for the next one
        path = self.folder.step_lora(self.iteration)
        try:
            self._export_averaged(path)
            self.emit(Lora(self.iteration, path.name))
        except (OSError, SafetensorError) as error:  # a full disk, for one: it costs this LoRA, not the run
            self.pulse.notice(f"The LoRA that was asked for couldn't be saved ({error}).")
        self.ranks.wait()

    def _rescue(self, saved: int) -> None:
        """Saves before an error ends the run, which stays the one that is told if this fails, too."""
        try:
            self._save()
        except Exception as error:  # whatever saving raises, it is the second error: the first one is raised
            with suppress(OSError):  # a full disk holds no notice either
                self.pulse.notice(
                    f"What was trained after iteration {saved} couldn't be saved ({error}): the run goes on from there."
                )

    def _tell_schedule(self) -> None:
        rollout = self.config.rollout
        shift = rollout.shift if rollout.shift > 0 else self.policy.shift()
        self.emit(Schedule(self.sampler.sigmas.tolist(), rollout.flash_ratio, shift))

    def _show_group(
        self, iteration: int, window: range, prompts: Sequence[str], experience: Experience, advantages: Tensor
    ) -> None:
        """What GRPO learns from, for people: of this process's groups the most telling one, now and then."""
        if not (self.ranks.is_main and self.newest_group.due()):
            return
        size, mine = self.config.rollout.group_size, experience.prompts
        number = most_spread(experience.rewards, size, mine)
        group = slice(number * size, (number + 1) * size)
        first = (number - mine.start) * size
        # Decoded anew: who kept the images of all groups until they have scores would need room for them.
        images = self.policy.decode(experience.trajectory.latents[first : first + size])
        shown = to_bytes(stills(images, self.config.run.frames)[0])
        rewards = {name: values[group].tolist() for name, values in experience.rewards.items()}
        with self.pulse.for_people("The images of the newest group"):
            self.newest_group.write(iteration, prompts[number], window, shown, rewards, advantages[group].tolist())

    def _spare_call(self) -> tuple:
        first = self.drawn[0]
        return self.policy.noise([0], first).to(self.policy.device), 1.0, self.policy.condition([first])

    def _tick(self) -> None:
        now = time.monotonic()
        self.train_seconds += now - self._clock
        self._clock = now


def check_ranks(config: TrainConfig, count: int, shapes: Collection[tuple[int, ...]]) -> None:
    """Raises ValueError with one sentence when some of `count` processes would have nothing to do, or prompts of
    different `shapes` (those of all that are drawn) in one iteration."""
    prompts = config.rollout.prompts_per_iteration
    if prompts < count:
        raise ValueError(
            f"prompts_per_iteration is {prompts} with {count} processes: each needs a prompt of its own, so set it to "
            f"{count} or a multiple of it."
        )
    if prompts > count and len(shapes) > 1:
        raise ValueError(
            f"The items' images have several sizes, and the {prompts} prompts of an iteration must have one: set "
            f"prompts_per_iteration to {count}, or scale all to one size."
        )


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _old_policy(parameters: list[nn.Parameter], config: TrainConfig) -> AdapterAverage | None:
    """The policy that samples where it isn't the trained one itself (forward_process.py)."""
    loss = config.loss
    if loss.surrogate != "nft":
        return None
    return AdapterAverage(parameters, loss.old_decay, lambda update: loss.old_decay_growth * update)


def _allocate_averages(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """AdamW's, as its first step would. Memory could run out in it, and a step can't be done again; model calls can."""
    for parameter in parameters:
        averages = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.tensor(0.0), **averages}


def _silent(_event: Event) -> None:
    """Where the events of all processes but the main one go."""


def _group_spread(rewards: Mapping[str, Tensor], group_size: int) -> float:
    """Mean over rewards and groups of the standard deviation inside a group, failed scores left out."""
    return float(_spreads(rewards, group_size).nanmean())


def most_spread(rewards: Mapping[str, Tensor], group_size: int, groups: range) -> int:
    """Which of these groups has the largest spread, the sum over rewards, each by its largest; the first of equals."""
    spreads = _spreads(rewards, group_size)[:, groups.start : groups.stop].nan_to_num(0.0)
    return groups[int((spreads / spreads.amax(-1, keepdim=True).clamp(min=1e-12)).sum(0).argmax())]


def _spreads(rewards: Mapping[str, Tensor], group_size: int) -> Tensor:
    """(rewards, groups): the standard deviation inside each group, failed scores left out."""
    groups = torch.stack(list(rewards.values())).unflatten(1, (-1, group_size))
    return (groups - groups.nanmean(-1, keepdim=True)).square().nanmean(-1).sqrt()
