"""The scorers by name: for whoever writes down a reward instead of constructing one."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import json
import os
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from .. import rewards
from ..records.readable import words_of
from ..rewards import Reward
from ..settings import KINDS, check_value

if TYPE_CHECKING:
    from ..rewards.judge.pair_questions import PairQuestion
    from ..rewards.judge.questions import Question

Made = TypeVar("Made")

# name -> module of mixgrpo_engine.rewards, class in it
REWARDS = {
    "hps": ("hps", "HPSReward"),
    "pick_score": ("pick_score", "PickScoreReward"),
    "image_reward": ("image_reward", "ImageRewardReward"),
    "clip_score": ("clip_score", "ClipScoreReward"),
    "aesthetic": ("aesthetic", "AestheticReward"),
    "judge": ("judge.reward", "JudgeReward"),
    "pairwise_judge": ("judge.pairwise", "PairwiseJudgeReward"),
    "http": ("remote.http_reward", "HTTPReward"),
    "ocr": ("ocr", "OcrReward"),
    "jpeg": ("jpeg", "JpegReward"),
    "shapes": ("shapes", "ShapesReward"),
    "clip_similarity": ("clip_similarity", "ClipSimilarityReward"),
    "outside_mask": ("outside_mask", "OutsideMaskReward"),
}

# Variables that only the machine's owner sets: a run file may come from somebody else, and travels.
JUDGE_HOSTS, JUDGE_KEY = "MIXGRPO_JUDGE_HOSTS", "MIXGRPO_JUDGE_KEY"


def load(name: str, options: Mapping, home: Path, device: str) -> Reward:
    """Constructs a scorer. options: arguments of its class, by name.

    An argument that is itself a group of options (ModelOptions: device, dtype, batch_size ...) is given by that
    group's own fields, without naming it. home: what relative paths belong to. device: where scorers with a network
    run, unless options says otherwise. Hosts and key of scorers at other hosts come from the environment, never from
    options.

    "module:name" is the owner's own one, from the command line only.
    Raises ValueError with one sentence for a name or an option that there isn't, and for an option of another type.
    """
    if ":" in name:
        return own(name)
    try:
        return _made(name, options, home, device)
    except (TypeError, AttributeError) as error:  # of a type that _value() knows nothing of
        given = json.dumps(options, default=str)
        raise ValueError(f"The reward '{name}' can't be made with the options {given} ({error}): mend them.") from error


def _made(name: str, options: Mapping, home: Path, device: str) -> Reward:
    kind = _find(name)
    arguments, groups = _parameters(kind)
    given = dict(options)
    secret = _remote_secrets() if "allowed_hosts" in arguments else {}
    arguments = {key: hint for key, hint in arguments.items() if key not in secret}
    if "question" in given and name in ASKED:
        given["question"] = ASKED[name](given["question"])
    values = {key: _value(given.pop(key), hint, home, name, key) for key, hint in arguments.items() if key in given}
    for argument, group in groups.items():
        hints = typing.get_type_hints(group)
        fields = {field.name for field in dataclasses.fields(group)}
        chosen = {key: _value(given.pop(key), hints[key], home, name, key) for key in fields & given.keys()}
        if "device" in fields:
            check_device(chosen.setdefault("device", device), f"The device of the reward '{name}'")
        if chosen:
            values[argument] = _construct(group, chosen, name)
    if given:
        known = [*arguments, *(field.name for group in groups.values() for field in dataclasses.fields(group))]
        raise ValueError(
            f"The reward '{name}' has no option '{sorted(given)[0]}': its options are {', '.join(known) or 'none'}."
        )
    return _construct(kind, {**values, **secret}, name)


def own(place: str) -> Reward:
    """The reward at "module:name" of Python's path, the working folder included: an object, or a class of such.

    Raises ValueError with one sentence for one that can't be imported, or is no reward.
    """
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
        reward = found() if isinstance(found, type) else found
    except Exception as error:  # the module is the owner's own code: whatever it raises, this says where
        raise ValueError(f"The reward '{place}' can't be imported ({words_of(error)}): mend it.") from error
    rewards.check_reward(reward)
    return reward


def _remote_secrets() -> dict:
    """allowed_hosts and key, from the environment. A key only goes to hosts that are named beside it."""
    hosts = [host.strip() for host in os.environ.get(JUDGE_HOSTS, "").split(",") if host.strip()]
    key = os.environ.get(JUDGE_KEY, "")
    if key and not hosts:
        raise ValueError(f"{JUDGE_KEY} is set without {JUDGE_HOSTS}: name the hosts that may get the key.")
    return {"allowed_hosts": hosts or None, "key": key}


def _question(value: object) -> Question:
    """A judge's question: a built-in one's name or {"text": ..., "templates": [...], "scale": [...], "source": ...}."""
    from ..rewards.judge.questions import PRESETS, Question

    if isinstance(value, dict) and {"text", "templates"} <= value.keys() <= {"text", "templates", "scale", "source"}:
        return _own_question(Question, value, "judge")
    if not isinstance(value, str) or value not in PRESETS:
        raise ValueError(
            f"The reward 'judge' has no question {value!r}: choose {', '.join(PRESETS)}, or give text and templates."
        )
    return PRESETS[value]


def _pair_question(value: object) -> PairQuestion:
    """A question about two pictures: the name of a built-in one, or {"text": ..., "source": true or false}."""
    from ..rewards.judge.pair_questions import PAIR_PRESETS, PairQuestion

    if isinstance(value, dict) and {"text"} <= value.keys() <= {"text", "source"}:
        return _own_question(PairQuestion, value, "pairwise_judge")
    if not isinstance(value, str) or value not in PAIR_PRESETS:
        raise ValueError(
            f"The reward 'pairwise_judge' has no question {value!r}: choose {', '.join(PAIR_PRESETS)}, or give a text."
        )
    return PAIR_PRESETS[value]


def _own_question(kind: type[Made], value: Mapping, name: str) -> Made:
    hints = typing.get_type_hints(kind)
    return kind(**{key: _value(each, hints[key], Path(), name, f"question.{key}") for key, each in value.items()})


# Scorers that are asked in words -> how a run file's question becomes theirs.
ASKED: dict[str, Callable[[object], object]] = {"judge": _question, "pairwise_judge": _pair_question}


def _find(name: str) -> type[Reward]:
    if name not in REWARDS:
        raise ValueError(f"There is no reward '{name}': choose {', '.join(REWARDS)}.")
    module, kind = REWARDS[name]
    path = f"{rewards.__name__}.{module}"
    if importlib.util.find_spec(path) is None:
        raise ValueError(f"The reward '{name}' isn't in this version: update the pack.")
    return getattr(importlib.import_module(path), kind)


def _parameters(kind: type) -> tuple[dict, dict]:
    """(plain arguments: name -> type, groups of options: name -> dataclass) of a scorer's constructor."""
    constructor = inspect.getattr_static(kind, "__init__")
    if constructor is object.__init__:
        return {}, {}
    hints = typing.get_type_hints(constructor)
    arguments, groups = {}, {}
    for name in list(inspect.signature(kind).parameters):
        hint = hints.get(name, object)
        inside = [each for each in typing.get_args(hint) if each is not type(None)] if _is_union(hint) else [hint]
        group = next((each for each in inside if dataclasses.is_dataclass(each)), None)
        if group:
            groups[name] = group
        elif all(not getattr(each, "_is_protocol", False) for each in inside):  # what only a program can give
            arguments[name] = hint
    return arguments, groups


def _is_union(hint: object) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _value(value: object, hint: object, home: Path, name: str, key: str) -> Any:
    """JSON's value for an argument of that type: paths belong to home, lists become tuples, as a single text does.

    Raises ValueError where a plain type is another one. name, key: of the reward and the option.
    """
    if isinstance(value, str) and Path in (hint, *typing.get_args(hint)):
        return home / value
    if isinstance(hint, type) and hint in KINDS:
        return check_value(value, f"The option {key} of the reward '{name}'", hint)
    if isinstance(value, str) and typing.get_origin(hint) is tuple and str in typing.get_args(hint):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def check_device(name: str, where: str) -> None:
    """Raises ValueError for a device that torch doesn't know, or a GPU that isn't there. where: what it is called."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{where} is '{name}': write cpu or cuda, or one GPU by its number, as cuda:1.") from None
    there = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= there:
        raise ValueError(f"{where} is '{name}', but PyTorch sees {there or 'no'} GPU{'s' * (there > 1)}.")


def _construct(kind: Callable[..., Made], values: Mapping, name: str) -> Made:
    missing = [
        each.name
        for each in inspect.signature(kind).parameters.values()
        if each.default is inspect.Parameter.empty and each.name not in values
    ]
    if missing:
        raise ValueError(f"The reward '{name}' needs the option '{missing[0]}'.")
    return kind(**values)
