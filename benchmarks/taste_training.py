"""Trainings by a scripted voter's taste: what held-out images are worth in truth, before and after."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.records.events import Evaluation, Event, Iteration, Notice, finite
from mixgrpo_engine.records.run_folder import RunFolder
from mixgrpo_engine.rewards import Reward
from mixgrpo_engine.rewards.shapes import ShapesReward
from mixgrpo_engine.rewards.taste import SHOWN, LiveReward, TasteReward
from mixgrpo_engine.training.trainer import Trainer

from .subject import Subject
from .taste_groups import Group, shown_of, sources
from .taste_voter import TASTES, AnsweredVotes, Voter

ITERATIONS = 40
SWEEPS = 5  # places of the demo's window, each once in a run
TRUE, LIVE, LEARNED, BOTH, MIXED = "true reward", "live", "learned", "learned and asked", "learned, half shapes"


@dataclass(frozen=True)
class Kind:
    """What a training learns from."""

    way: str
    votes: int = 0
    iterations: int = ITERATIONS

    @property
    def evaluate_every(self) -> int:
        return min(20, self.iterations) if self.iterations > ITERATIONS else self.iterations


def train(subject: Subject, taste: str, kind: Kind, seed: int, groups: Sequence[Group], folder: Path) -> dict:
    """One run. groups: of the untrained model, to be voted on before. folder: of votes, kept between runs."""
    policy_config = settings(subject.settings, kind, seed)
    policy, voter, events = subject.policy(policy_config), Voter(TASTES[taste], seed), []
    with tempfile.TemporaryDirectory(prefix="mixgrpo-benchmark-") as place:
        votes = AnsweredVotes(Path(place) / "votes", voter)
        if kind.way in (LEARNED, BOTH, MIXED):
            vote(votes, groups, kind.votes // 2 if kind.way == BOTH else kind.votes, folder)
        sampled = ITERATIONS * subject.settings.rollout.prompts_per_iteration
        every = round(sampled / max(1, kind.votes // 2))
        learned = TasteReward(votes, sources(policy), every if kind.way == BOTH else 0, "run")
        trained: dict[str, Reward] = {"taste": learned}
        if kind.way == TRUE:
            trained = {"taste": TASTES[taste]}
        elif kind.way == LIVE:
            trained = {"taste": LiveReward(votes, SHOWN, source="run")}
        weights = dict.fromkeys(trained, 1.0)
        if kind.way == MIXED:
            trained["shapes"], weights["shapes"] = ShapesReward(), 0.5
        run_folder = RunFolder(Path(place) / "run")

        def emit(event: Event) -> None:
            run_folder.emit(event)
            events.append(event)

        trainer = Trainer(
            policy, trained, subject.prompts, policy_config, run_folder, emit, weights=weights, watched=TASTES
        )  # fmt: skip
        trainer.run()
        for path in votes.folder.glob("features-*"):
            shutil.copy(path, folder / path.name)
        return {**told(events, list(trained)), "answers": len(votes.read().answers)}


def vote(votes: AnsweredVotes, groups: Sequence[Group], count: int, features: Path) -> None:
    """So many answers on the first groups, four images of each; features: those of images that were seen before."""
    for group in groups:
        if len(votes.read().answers) == count:
            break
        votes.add(group.images[shown_of(group.images)], group.prompt)
    if len(votes.read().answers) < count:
        raise ValueError(f"{len(groups)} groups are too few for {count} votes.")
    for path in features.glob("features-*"):
        shutil.copy(path, votes.folder / path.name)


def settings(demo: TrainConfig, kind: Kind, seed: int) -> TrainConfig:
    """The demo's; a voter who is asked about every group sees one prompt an iteration, all of its images."""
    live = {"prompts_per_iteration": 1, "group_size": SHOWN} if kind.way == LIVE else {}
    iterations = kind.votes if live else kind.iterations
    return dataclasses.replace(
        demo,
        rollout=dataclasses.replace(demo.rollout, **live),
        window=dataclasses.replace(demo.window, interval=max(1, iterations // SWEEPS)),
        run=dataclasses.replace(
            demo.run, iterations=iterations, seed=seed, evaluate_every=min(kind.evaluate_every, iterations),
            checkpoint_every=iterations, evaluate_images=2,
        ),
    )  # fmt: skip


def told(events: Sequence[Event], trained: Sequence[str]) -> dict:
    evaluations = [event for event in events if isinstance(event, Evaluation)]
    iterations = [event for event in events if isinstance(event, Iteration)]
    found = {
        "points": [{"iteration": each.iteration, **each.reward} for each in evaluations],
        "scores": [each.reward[trained[0]] for each in iterations],
        "seconds": sum(each.seconds["total"] for each in iterations),
        "notices": [[each.iteration, each.message] for each in events if isinstance(each, Notice)],
    }
    return finite(found)  # a group that was skipped has no score
