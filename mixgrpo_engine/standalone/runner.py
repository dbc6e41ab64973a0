"""Training and evaluation as a run file says, without ComfyUI; one process, or one a GPU under `accelerate launch`."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from filelock import FileLock, Timeout

from .. import deterministic
from ..config import SETTINGS, TrainConfig
from ..distributed import sharding
from ..memory.micro_batches import BatchedVelocity
from ..policies.diffusers_folder import DiffusersFolder
from ..policies.diffusers_policy import DiffusersPolicy, encode_prompts
from ..policies.encoded_prompts import EncodedPrompts
from ..records import disk, run_status
from ..records.events import Cancelled, Event, Failed, Notice, Stage, finite
from ..records.files import read_json, remove, write_json
from ..records.readable import traceback_of, words_of
from ..records.run_folder import RunFolder
from ..records.trackers import Trackers
from ..rewards import Reward, compares_group, mix
from ..rewards.scoring import and_why, score_by_each
from ..training.evaluation import batches, noise_seeds
from ..training.experience import sample_held_out
from ..training.pulse import Stopped
from ..training.trainer import Trainer
from . import reward_table
from .run_file import WITHOUT_EFFECT, RewardEntry, RunFile


class Run:
    """A run file at work: its folder, devices, models and scorers. Every rank makes the same one."""

    def __init__(self, file: RunFile, say: Callable[[Event], None] = lambda event: None) -> None:
        """say: gets every event of the main process, beside the run folder."""
        self.file, self.config = file, file.config
        if self.config.run.deterministic:
            deterministic.prepare()
        sharding.check_launch(self.config.adapter.kind)
        sharding.load_models_whole()
        wanted = file.model.device
        self.ranks = PartialState(cpu=wanted == "cpu", timeout=sharding.PATIENCE)
        if self.ranks.num_processes > 1 and wanted not in ("auto", "cpu", "cuda"):
            raise ValueError(
                f'model.device is "{wanted}" with {self.ranks.num_processes} processes, which would share it: use '
                '"auto", a GPU for each.'
            )
        self.device = self.ranks.device if wanted in ("auto", "cpu", "cuda") else torch.device(wanted)
        dtype = file.model.dtype
        if dtype == "auto":
            dtype = "float32" if self.device.type == "cpu" else "bfloat16"
        self.dtype = getattr(torch, dtype)
        self.folder = RunFolder(file.output)
        if self.config.adapter.kind == "full":  # what is exported then are folders
            self.folder.lora = self.folder.path / "transformer"
            self.folder.best_lora = self.folder.path / "transformer-best"
        self.say = say
        self.recording = True  # off: events are only told, the run folder stays as it is
        self.trackers = Trackers(file.trackers, self.folder, self.config.as_dict(), self.emit)

    def emit(self, event: Event) -> None:
        """Into events.jsonl, status.json and to whoever listens; by the main process only."""
        if not self.ranks.is_main_process:
            return
        if self.recording:
            self.folder.emit(event)
            fields = run_status.fields_of(event, self.folder.status())
            if fields:
                self.folder.set_status(**fields)
            self.trackers(event)
        self.say(event)

    def tell_failure(self, error: Exception) -> None:
        """Into events.jsonl and status.json, by the process that fails first: the others only lose their connection."""
        if self.ranks.num_processes > 1 and self.folder.status()["state"] == "failed":
            return
        event = Failed(str(disk.trouble(error) or words_of(error)), traceback_of(error))
        self.folder.emit(event)
        self.folder.set_status(**run_status.fields_of(event, self.folder.status()))
        self.trackers(event)
        self.say(event)

    @contextlib.contextmanager
    def holding_the_folder(self) -> Iterator[None]:
        """Makes the folder, checks that it is this run's, and keeps other processes out of it.

        Raises ValueError for a folder of another run, RuntimeError when another process is at it.
        """
        if not self.ranks.is_main_process:
            self.ranks.wait_for_everyone()
            yield
            return
        self.folder.create()
        try:
            with FileLock(self.folder.lock, timeout=1):
                self._claim()
                self.ranks.wait_for_everyone()
                yield
        except Timeout:
            raise RuntimeError(f"Another process is at work in {self.folder.path}: wait for it, or end it.") from None

    def policy(self, should_stop: Callable[[], bool]) -> DiffusersPolicy:
        """The model, its prompts encoded first. Raises Stopped when asked to stop meanwhile."""
        for library in ("diffusers", "transformers"):  # ComfyUI doesn't bring the first
            if importlib.util.find_spec(library) is None:
                raise RuntimeError(f"{library} isn't installed: pip install {library}.")
        entry, prompts = self.file.model, self.file.prompts
        model = DiffusersFolder(entry.path, entry.transformer or "")
        model.require_files()
        length = entry.sequence_length or model.family.sequence_length
        source = f"{model.path} {length} {self.dtype}"
        run, count = self.config.run, self.config.rollout.prompts_per_iteration
        needed = prompts.needed(run.iterations, count, run.seed)
        encoded = EncodedPrompts(self.folder.path / "prompts", [entry.negative, *needed], source)
        # Each rank makes its share of what is missing. They take turns at nothing else, so none waits for long.
        missing = encoded.missing()
        self.ranks.wait_for_everyone()
        if missing:
            self.emit(Stage("encode", f"Encoding {len(encoded.prompts)} prompts."))
        share = missing[self.ranks.process_index :: self.ranks.num_processes]

        def check(done: int) -> None:
            if should_stop():
                raise Stopped

        stopped = False
        try:
            encode_prompts(model, encoded, self.device, self.dtype, length, share, check)
        except Stopped:
            stopped = True
        if any(gather_object([stopped])):  # all or none: one that went on alone would wait for the others for ever
            raise Stopped
        texts = encoded.texts()
        if twins := texts.require_distinct(going_on=bool(self.folder.status().get("checkpoint"))):
            self.emit(Notice(0, twins))
        if missing and (notice := texts.notice()):
            self.emit(Notice(0, notice))
        self.emit(Stage("load", f"Loading {model.path} onto {self.device}."))
        return DiffusersPolicy(
            model,
            encoded,
            width=self.config.run.width,
            height=self.config.run.height,
            device=self.device,
            dtype=self.dtype,
            cfg=self.config.rollout.cfg,
            negative=entry.negative,
            guidance=entry.guidance,
            adapter=self.config.adapter,
            seed=self.config.run.seed,
            gradient_checkpointing=self.config.run.gradient_checkpointing,
        )

    def rewards(self, entries: list[RewardEntry]) -> tuple[dict[str, Reward], dict[str, float]]:
        """(scorers by name, their weights)"""
        home, device = self.file.home, str(self.device)
        made = [(reward_table.load(entry.name, entry.options, home, device), entry.weight) for entry in entries]
        return mix.parts(mix.mix(made)) if made else ({}, {})

    def _claim(self) -> None:
        """job.json says whose folder it is."""
        mine = self.file.description()
        if not self.folder.job.exists():
            write_json(self.folder.job, mine)
            return
        theirs = read_json(self.folder.job)
        # A setting that is newer than the run had its default's effect then.
        theirs["config"] = TrainConfig.from_dict(theirs.get("config", {})).as_dict()
        difference = first_difference(_fixed(theirs), _fixed(mine))
        if difference:
            where, before, now = difference
            raise ValueError(
                f"{self.folder.path} holds another run ({where} was {before!r} and is {now!r}): choose another output "
                "folder, or move the old one away."
            )
        write_json(self.folder.job, mine)


def train(run: Run, should_stop: Callable[[], bool] = lambda: False) -> str:
    """Trains, going on where an earlier start has stopped: "finished" or "cancelled".

    Whatever ends it is the last event; an error is raised again.
    """
    rewards, weights = run.rewards(run.file.rewards)
    watched, watched_weights = run.rewards(run.file.watch)
    with run.holding_the_folder():
        if run.ranks.is_main_process:
            remove(run.folder.save_file)  # meant for an earlier start
        try:
            policy = run.policy(should_stop)
            run.emit(Stage("train", f"Training in {run.folder.path}."))
            return Trainer(
                policy, rewards, run.file.prompts, run.config, run.folder, run.emit, should_stop, weights, watched,
                watched_weights,
            ).run()  # fmt: skip
        except Stopped:
            run.emit(Cancelled(0, "Cancelled before the training went on."))
            return "cancelled"
        except Exception as error:  # whatever it is, it is raised again: the run folder is only told before
            run.tell_failure(error)
            raise


def evaluate(run: Run, should_stop: Callable[[], bool] = lambda: False) -> dict[str, dict[str, float]]:
    """Mean scores on the held-out prompts (without any: the first training prompts), always with the same noises.

    {"base": {...}, "last": {...}, "best": {...}} by scorer, as far as the run has exported them; also written to
    evaluation.json in the run folder. NaN, there null: nothing could be scored. Raises RuntimeError under several
    processes, ValueError where no reward has a mean that says anything.
    """
    if run.ranks.num_processes > 1:
        raise RuntimeError("evaluate runs in one process: start it without accelerate launch.")
    run.recording = False
    entries = [*run.file.rewards, *run.file.watch]
    all_rewards, _ = run.rewards(entries)
    rewards = {name: reward for name, reward in all_rewards.items() if not compares_group(reward)}
    if not rewards:
        raise ValueError(
            "All rewards of the run only compare the images of a prompt with each other, so their means tell nothing: "
            'add one that scores images by themselves to "watch".'
        )
    for name in all_rewards.keys() - rewards.keys():
        run.emit(Notice(0, f"The reward '{name}' only compares images with each other: its mean is left out."))
    with run.holding_the_folder():
        policy = run.policy(should_stop)
        # A LoRA to start from is no part of the base model. All weights are the base model's until some are loaded.
        with policy.base() if run.config.adapter.kind == "lora" else contextlib.nullcontext():
            results = {"base": _mean_scores(run, policy, rewards, should_stop, "the base model")}
        for which, path in (("last", run.folder.lora), ("best", run.folder.best_lora)):
            if path.exists():
                policy.load_export(path)
                results[which] = _mean_scores(run, policy, rewards, should_stop, f"the {which} weights")
        write_json(run.folder.path / "evaluation.json", finite(results))
    return results


@torch.no_grad()
def _mean_scores(
    run: Run, policy: DiffusersPolicy, rewards: Mapping[str, Reward], should_stop: Callable[[], bool], whose: str
) -> dict[str, float]:
    """By scorer, without the images that it couldn't score, which are told."""
    config = run.config
    prompts = [prompt for prompt in run.file.prompts.measured for _ in range(config.run.evaluate_images)]
    scored = []

    def go_on(sigma: float = 0.0) -> None:
        if should_stop():
            raise Stopped

    for rows in batches(range(len(prompts)), config.rollout.batch_size or config.rollout.group_size):
        of_rows = [prompts[row] for row in rows]
        velocity = BatchedVelocity(policy.module, policy.condition(of_rows), 0, go_on)
        noise = policy.noise(noise_seeds(config.run.seed, rows))
        latents = sample_held_out(velocity, noise, policy, config.rollout, config.evaluation_steps)
        images = policy.decode(latents)
        scored.append(score_by_each(rewards, images, of_rows, go_on))
    values = {name: torch.cat([part.values[name] for part in scored]) for name in rewards}
    for name, each in values.items():
        if failed := int(each.isnan().sum()):
            why = and_why([reason for part in scored for reason in part.failures[name]])
            told = f"The reward '{name}' couldn't score {failed} of {len(each)} images of {whose}. {why}"
            run.emit(Notice(0, told.strip()))
    return {name: float(each.nanmean()) for name, each in values.items()}


def first_difference(old: object, new: object, where: str = "") -> tuple[str, object, object] | None:
    """(place, old value, new value) of the first thing that differs between two JSON values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            found = first_difference(old.get(key), new.get(key), f"{where}.{key}" if where else key)
            if found:
                return found
        return None
    return None if old == new else (where, old, new)


def _fixed(description: dict) -> dict:
    """A run's description without what may change between a start and a resume.

    That is what doesn't change the training, and how long it goes on, unless the learning rate falls with that. Of
    settings that are refused now as being without effect, older runs may have a value.
    """
    config = {group: dict(values) for group, values in description.get("config", {}).items()}
    constant = config.get("optimizer", {}).get("schedule") == "constant"
    for each in SETTINGS:
        free = each.group == "run" and (each.field in WITHOUT_EFFECT or (each.field == "iterations" and constant))
        if free or not each.changes_training:
            config.get(each.group, {}).pop(each.field, None)
    return {**description, "config": config}
