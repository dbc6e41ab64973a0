"""What a worker does once ComfyUI is up: encode the prompts, load the models, train, publish the LoRAs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...mixgrpo_engine.config import TrainConfig
from ...mixgrpo_engine.prompts import PromptSet
from ...mixgrpo_engine.records.events import Lora, Notice, Stage
from ...mixgrpo_engine.records.files import read_json, write_json
from ...mixgrpo_engine.records.run_folder import RunFolder
from ...mixgrpo_engine.records.trackers import Trackers
from ...mixgrpo_engine.rewards import Reward
from ...mixgrpo_engine.rewards.references import uses_references
from .. import item_files, votes
from ..comfy_types import Vae
from ..model import start_lora
from ..model.encodings import StoredEncodings
from ..runs import curve, item_graph, published_lora, stored_prompts
from . import ranks, stages
from .compat import Comfy
from .report import LOG, Reporter
from .stop import Stop

WITHOUT_FIT = (
    "The taste judges by what the images look like alone: the trained model is asked how well one fits its prompt only "
    "for single images of prompts without pictures."
)


def train(job: dict, path: Path, comfy: Comfy, reporter: Reporter, stop: Stop, trackers: Sequence[str] = ()) -> None:
    """Trains as job.json says. Raises whatever goes wrong, StopRequested when cancelled before the training."""
    folder = RunFolder(path)
    config = TrainConfig.from_dict(job["config"])
    if trackers:
        reporter.after(Trackers(trackers, folder, job["config"], reporter.emit))
    told = stored_prompts.read(folder, job)
    prompts = PromptSet.of_dict(told, item_files.root())
    loader = stages.Loader(job, folder, comfy, reporter, stop)
    words_tell_fit = config.run.frames == 1 and not prompts.has_pictures
    voted = ranks.from_first(folder, stop, lambda: votes.prompts_of(job["graph"]) if words_tell_fit else [])
    encoded, loaded = loader.load(prompts, config, voted)
    stop.check()

    from ...mixgrpo_engine.rewards import mix
    from ...mixgrpo_engine.training.trainer import Trainer
    from ..model.policy import ComfyPolicy
    from ..model.video import by_frames
    from ..rewards.plain_prompts import by_plain_prompts

    reporter.emit(Stage("train", "Preparing the model for training."))
    if config.adapter.start_from:
        start_lora.require_unchanged(config.adapter.start_from, job["start_sha256"])
    rewards, weights = mix.parts(loaded["reward"])
    watched, watched_weights = mix.parts(loaded["watch"]) if "watch" in loaded else ({}, {})
    votes.tell_of_others(rewards, weights, config.run.processes)
    scorers = [*rewards.values(), *watched.values()]
    check_pictures(prompts, scorers, item_graph.takes_pictures(job["graph"]))
    config, sizes = with_size_of_items(config, encoded, loaded["vae"])
    if sizes:
        reporter.emit(Notice(reporter.checkpoint, sizes))
    config = plan_memory(loaded, encoded, scorers, config, reporter)
    policy = ComfyPolicy(
        loaded.pop("model"),
        loaded.pop("vae"),
        encoded,
        width=config.run.width,
        height=config.run.height,
        cfg=config.rollout.cfg,
        negative=config.run.negative_prompt,
        guidance=config.run.guidance,
        frames=config.run.frames,
        adapter=config.adapter,
        seed=config.run.seed,
        gradient_checkpointing=config.run.gradient_checkpointing,
        swapped_blocks=max(0, config.run.swapped_blocks),  # -1 stays where the memory can't be estimated
    )
    for notice in (*policy.notices, *another_base(folder, policy.fingerprint(), reporter.checkpoint)):
        reporter.emit(Notice(reporter.checkpoint, notice))
    if words_tell_fit:
        for reward in scorers:
            votes.let_see(reward, policy, encoded.prompts, config.rollout.batch_size)
    elif any(map(votes.taste_in, scorers)):
        reporter.emit(Notice(reporter.checkpoint, WITHOUT_FIT))
    rewards, watched = (by_frames(by_plain_prompts(each), config.run.frames) for each in (rewards, watched))
    trainer = Trainer(
        policy, rewards, prompts, config, folder, reporter.emit, stop.requested, weights, watched, watched_weights
    )
    stop.finishing = trainer.finishing
    published_lora.remove_unfinished(folder)
    # A run is finished when its LoRA is where people look for it, not before.
    reporter.before("done", lambda _: publish(folder))
    reporter.before("done", lambda _: draw_curve(folder))
    reporter.before("cancelled", lambda _: publish_of_unfinished(folder))
    reporter.before("lora", lambda event: publish_step(folder, event))
    if trainer.run() == "cancelled" and trainer.ranks.is_main:
        draw_curve(folder)


def check_pictures(prompts: PromptSet, rewards: list[Reward], reach_the_model: bool) -> None:
    """Raises ValueError for pictures that nothing would see, and for a reward that lacks some."""
    prompts.check_rewards(rewards)
    seen = reach_the_model or any(map(uses_references, rewards))
    if not seen and prompts.has_pictures:
        raise ValueError(
            "The prompts have pictures, but neither the model nor a reward sees them: make a conditioning of MixGRPO "
            "Item's outputs and wire it into positive of MixGRPO Train."
        )


def with_size_of_items(config: TrainConfig, encoded: StoredEncodings, vae: Vae) -> tuple[TrainConfig, str]:
    """(the settings with the size of the items' largest latent, if there is one; what to tell where they differ)."""
    shapes = {shape[-2:] for shape in encoded.latent_shapes().values() if shape}
    if not shapes:
        return config, ""
    scale = vae.spacial_compression_decode()
    sizes = sorted((height * width, width * scale, height * scale) for height, width in shapes)
    _, width, height = sizes[-1]
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, width=width, height=height))
    if len(sizes) == 1:
        return config, ""
    return config, f"Each image has the size of its item's latent: {len(sizes)} sizes, at most {width} x {height}."


def plan_memory(
    loaded: dict[str, Any],
    encoded: StoredEncodings,
    rewards: list[Reward],
    config: TrainConfig,
    reporter: Reporter,
) -> TrainConfig:
    """The settings with batch sizes that fit, which it tells. Raises MemoryError when nothing fits on a GPU."""
    from ..model import preflight

    check = preflight.Preflight(loaded["model"], loaded["vae"], encoded, encoded.prompts, rewards)
    config, sentence = preflight.plan(check, config)
    reporter.emit(Notice(reporter.checkpoint, sentence))
    return config


def another_base(folder: RunFolder, fingerprint: str, iteration: int) -> list[str]:
    """What to tell of a run that goes on, from an iteration, on another base model than it began with.

    The graph holds names only: a file may have been replaced under its name. fingerprint: of its shapes, norms and
    biases.
    """
    path, before = folder.path / "base.json", None
    with suppress(OSError, ValueError, KeyError, TypeError):  # an older run, or a damaged file
        before = read_json(path)["fingerprint"]
    if before == fingerprint or ranks.index() > 0:
        return []
    write_json(path, {"fingerprint": fingerprint})
    told = (
        f"The base model isn't the one that the first {iteration} iterations were trained on: was a file replaced "
        "under its name? A run of another name trains on this one alone."
    )
    return [told] if before and iteration else []


def draw_curve(folder: RunFolder) -> dict:
    """reward.png; no status fields."""
    try:
        curve.draw(folder)
    except Exception:  # whatever a drawing library may raise: it costs the picture, never the finished training
        LOG.exception("reward.png can't be drawn.")
    return {}


def publish_step(folder: RunFolder, event: Lora) -> dict:
    """A LoRA that was asked for, beside the run's others where ComfyUI's LoRA loaders look; no status fields."""
    published_lora.publish(folder, str(event.iteration))
    return publish_of_unfinished(folder)


def publish_of_unfinished(folder: RunFolder) -> dict:
    """The best LoRA of a run that isn't finished; status fields."""
    try:
        return published_lora.publish_best(folder)
    except OSError:  # a full disk: it costs the file in the loaders' folder, not the last word
        LOG.exception("The best LoRA can't be published.")
        return {}


def publish(folder: RunFolder) -> dict:
    """The run's LoRAs where ComfyUI's LoRA loaders look; status fields."""
    published_lora.publish(folder)
    return {"lora": published_lora.name(folder), **published_lora.publish_best(folder, finished=True)}
