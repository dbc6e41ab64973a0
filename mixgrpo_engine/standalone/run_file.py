"""run.json: what a run without ComfyUI trains, on what, for which rewards, with which settings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import prompt_files
from ..config import SETTINGS, TrainConfig
from ..presets import preset
from ..prompts import PromptSet, split
from ..records.files import sha256
from ..records.trackers import checked
from ..settings import KINDS, Setting
from .reward_table import REWARDS, check_device

DTYPES = ("auto", "float32", "bfloat16", "float16")

# Settings of run that have no effect without ComfyUI -> what to do instead.
WITHOUT_EFFECT = {
    "negative_prompt": "it is written as model.negative",
    "guidance": "it is written as model.guidance",
    "processes": "accelerate launch starts them (--num_processes), so leave it out",
    "frames": "only models of images are trained, so leave it out",
    "try_anyway": "no memory is estimated before, so leave it out",
    "swapped_blocks": "blocks aren't swapped, so leave it out",
}


@dataclass(frozen=True)
class ModelEntry:
    """The entry "model". Paths are absolute."""

    # "diffusers": a folder of FLUX.1, SD3 / SD3.5 or Chroma as diffusers saves it.
    kind: str
    path: Path
    # A single .safetensors file whose weights take the place of the folder's transformer.
    transformer: Path | None = None
    # Embedded guidance, where the transformer has it (FLUX.1 [dev]).
    guidance: float | None = None
    # The prompt that classifier-free guidance (rollout.cfg above 1) leads away from.
    negative: str = ""
    # Tokens of a prompt in T5; 0 takes the pipeline's own (512 for FLUX.1, 256 for SD3).
    sequence_length: int = 0
    # "auto": cuda where there is one, otherwise the CPU.
    device: str = "auto"
    # Of transformer and text encoders. "auto": bfloat16 on a GPU, float32 on a CPU.
    dtype: str = "auto"


@dataclass(frozen=True)
class RewardEntry:
    """One of the entries "rewards" or "watch"."""

    name: str
    weight: float = 1.0
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class RunFile:
    """A whole run.json, checked."""

    model: ModelEntry
    prompts: PromptSet
    rewards: list[RewardEntry]
    watch: list[RewardEntry]
    config: TrainConfig
    output: Path
    # The run file's own folder: what relative paths in a reward's options belong to.
    home: Path
    trackers: tuple[str, ...] = ()

    def description(self) -> dict:
        """Everything that makes the run what it is, as JSON-ready data; the output folder isn't."""
        start = self.config.adapter.start_from
        about = {"start_sha256": sha256(Path(start))} if start else {}
        return about | json.loads(
            json.dumps(
                {
                    "model": dataclasses.asdict(self.model),
                    "prompts": dataclasses.asdict(self.prompts),
                    "rewards": [dataclasses.asdict(entry) for entry in self.rewards],
                    "watch": [dataclasses.asdict(entry) for entry in self.watch],
                    "config": self.config.as_dict(),
                },
                default=str,
            )
        )


ENTRIES = ("model", "prompts", "held_out", "rewards", "watch", "settings", "preset", "output", "trackers")


def read(path: str | Path, own_rewards: Sequence[str] = ()) -> RunFile:
    """Reads and checks a run file. Relative paths in it belong to its own folder.

    own_rewards: "module:name" of the command line, which are learned from as well (reward_table.py). A run file can't
    name any: it may come from a stranger, and would run code.
    Raises ValueError or FileNotFoundError with one sentence that names the wrong entry.
    """
    path = Path(path).absolute()
    values = _load(path)
    for name in values.keys() - set(ENTRIES):
        raise ValueError(f"{path.name} has an unknown entry '{name}': the entries are {', '.join(ENTRIES)}.")
    for name in ("model", "prompts", "rewards", "output"):
        if name not in values and not (name == "rewards" and own_rewards):
            raise ValueError(f"{path.name} has no entry '{name}': add it.")
    home = path.parent
    config = _config(values.get("preset"), values.get("settings", {}))
    if config.adapter.start_from:
        config.adapter.start_from = str(home / config.adapter.start_from)
        if not Path(config.adapter.start_from).is_file():
            raise FileNotFoundError(f"settings.adapter.start_from: there is no file {config.adapter.start_from}.")
    return RunFile(
        model=_model(values["model"], home),
        prompts=_prompts(values["prompts"], values.get("held_out", 0), home, config.run.seed),
        rewards=_rewards(values.get("rewards", []), "rewards", bool(own_rewards)) + [*map(RewardEntry, own_rewards)],
        watch=_rewards(values.get("watch", []), "watch", may_be_empty=True),
        config=config,
        output=home / _text(values["output"], "output"),
        home=home,
        trackers=_trackers(values.get("trackers", [])),
    )


def _load(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no run file {path}: check its path.") from None
    except ValueError as error:
        raise ValueError(f"{path} isn't JSON ({error}): mend it.") from None
    return _object(values, str(path))


def _model(values: object, home: Path) -> ModelEntry:
    values = _object(values, "model")
    _check_names(values, ModelEntry, "model")
    if values.get("kind") != "diffusers":
        kind = json.dumps(values.get("kind"))
        raise ValueError(f'model.kind is {kind}: without ComfyUI it can only be "diffusers".')
    if "path" not in values:
        raise ValueError("model has no path: name the folder of the model.")
    checked: dict[str, Any] = {"kind": "diffusers", "path": home / _text(values["path"], "model.path")}
    if values.get("transformer") is not None:
        checked["transformer"] = home / _text(values["transformer"], "model.transformer")
    if values.get("guidance") is not None:
        checked["guidance"] = _as(float, values["guidance"], "model.guidance")
    for name in ("negative", "device", "dtype"):
        if name in values:
            checked[name] = _as(str, values[name], f"model.{name}")
    checked["sequence_length"] = _as(int, values.get("sequence_length", 0), "model.sequence_length")
    entry = ModelEntry(**checked)
    if entry.dtype not in DTYPES:
        raise ValueError(f"model.dtype is '{entry.dtype}': choose {', '.join(DTYPES)}.")
    if entry.device != "auto":
        check_device(entry.device, "model.device")
    if entry.sequence_length < 0:
        raise ValueError(f"model.sequence_length is {entry.sequence_length}: it must be 0 (the model's own) or more.")
    return entry


def _prompts(values: object, held_out: object, home: Path, seed: int) -> PromptSet:
    """prompts: a list or a file; held_out: how many of them, or prompts of its own."""
    train = _listed(values, home, "prompts")
    if isinstance(held_out, int) and not isinstance(held_out, bool):
        if held_out < 0:
            raise ValueError(f"held_out is {held_out}: it must be 0 or more.")
        return split(train, held_out, seed)
    # Checked as split() does: no empty ones, none twice.
    kept = split(train, 0).train
    return PromptSet(kept, split(_listed(held_out, home, "held_out"), 0).train)


def _listed(values: object, home: Path, where: str) -> list[str]:
    if isinstance(values, str):
        file = home / values
        try:
            return prompt_files.read(file)
        except FileNotFoundError:
            raise FileNotFoundError(f"{where} names the file {file}, which isn't there: check its path.") from None
        except OSError as error:
            raise ValueError(f"{where} names the file {file}, which can't be read ({error}).") from None
    if not isinstance(values, list) or not all(isinstance(prompt, str) for prompt in values):
        raise ValueError(f"{where} must be a list of prompts, or the path of a .txt, .jsonl or .csv file.")
    return values


def _rewards(values: object, where: str, may_be_empty: bool = False) -> list[RewardEntry]:
    if not isinstance(values, list) or not (values or may_be_empty):
        raise ValueError(f'{where} must be a list such as [{{"name": "shapes", "weight": 1}}].')
    entries = []
    for number, each in enumerate(values):
        place = f"{where}[{number}]"
        each = _object(each, place)
        _check_names(each, RewardEntry, place)
        name = each.get("name")
        if name not in REWARDS:
            raise ValueError(f"{place}.name is {json.dumps(name)}: choose {', '.join(REWARDS)}.")
        weight = _as(float, each.get("weight", 1.0), f"{place}.weight")
        if not 0 <= weight < float("inf"):
            raise ValueError(f"{place}.weight is {weight}: it must be 0 or more.")
        entries.append(RewardEntry(name, weight, _object(each.get("options", {}), f"{place}.options")))
    if entries and not any(entry.weight for entry in entries):
        raise ValueError(f"Every weight in {where} is 0: one must be above it.")
    return entries


def _trackers(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(name, str) for name in values):
        raise ValueError('trackers must be a list such as ["tensorboard"].')
    return checked(values, "trackers")


def _config(name: object, settings: object) -> TrainConfig:
    """The preset's settings (the defaults without one), with those of `settings` in their place."""
    settings = _object(settings, "settings")
    config = preset(_text(name, "preset")) if name is not None else TrainConfig()
    groups: dict[str, dict[str, Setting]] = {}
    for each in SETTINGS:
        groups.setdefault(each.group, {})[each.field] = each
    for group, changes in settings.items():
        if group not in groups:
            raise ValueError(f"settings has an unknown group '{group}': the groups are {', '.join(groups)}.")
        for field_, value in _object(changes, f"settings.{group}").items():
            where = f"settings.{group}.{field_}"
            if field_ not in groups[group]:
                raise ValueError(f"{where} is unknown: the settings are {', '.join(groups[group])}.")
            groups[group][field_].put(config, value, where)
            asked = value not in (0, groups[group][field_].default)  # 0 asks for nothing
            if group == "run" and field_ in WITHOUT_EFFECT and asked:
                raise ValueError(f"{where} is {value!r}: without ComfyUI {WITHOUT_EFFECT[field_]}.")
    if config.adapter.start_from:
        # A preset's are of a new LoRA; this one has its own.
        for field_ in {"alpha", "targets", "exclude"} - settings["adapter"].keys():
            setattr(config.adapter, field_, groups["adapter"][field_].default)
    try:
        config.validate()
    except ValueError as error:
        raise ValueError(f"settings: {error}") from None
    return config


def _as(kind: type, value: object, where: str) -> Any:
    """The value as that type; a whole number is a number too, but nothing else is turned into anything."""
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} is {json.dumps(value)}: it must be {KINDS[kind]}.")
    return value


def _text(value: object, where: str) -> str:
    text: str = _as(str, value, where)
    if not text or "\0" in text:
        raise ValueError(f"{where} is empty: write something there.")
    return text


def _object(value: object, where: str) -> dict:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a JSON object, in {{ }}.")
    return value


def _check_names(values: dict, kind: type, where: str) -> None:
    known = [each.name for each in dataclasses.fields(kind)]
    for name in values.keys() - set(known):
        raise ValueError(f"{where} has an unknown entry '{name}': the entries are {', '.join(known)}.")
