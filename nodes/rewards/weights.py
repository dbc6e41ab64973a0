"""Where a scorer's weights come from: model folders, the Hugging Face cache, and downloads that the owner allows.

A widget's value is a file's name in models/reward_models, or says where else it is: "clip_vision: NAME",
"hub: REPOSITORY/FILE", "download: NAME (SIZE, LICENCE)". Values come with graphs from strangers, so each is looked up
in known places and nothing else.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from ...mixgrpo_engine.rewards.files import catalog, kinds
from ...mixgrpo_engine.rewards.files.catalog import KnownFile
from ...mixgrpo_engine.rewards.files.kinds import Kind
from .. import owner_settings

KEY = "reward_models"
"""Of ComfyUI's model folders; extra_model_paths.yaml may add roots to it."""

TENSORS = (".safetensors", ".pt", ".pth", ".bin")
NONE = "none"


@dataclass(frozen=True)
class Slot:
    """A weights widget: what it takes, and from where."""

    # For sentences: "the weights of HPS v2.1".
    what: str
    # The published file it is made for; None where ComfyUI's own models serve.
    known: KnownFile | None
    # What its files are; None offers whatever has a right ending.
    kind: Kind | None = None
    # Model folders of ComfyUI that hold such files too.
    folders: tuple[str, ...] = ()
    endings: tuple[str, ...] = TENSORS
    # May be left out.
    optional: bool = False


HPS = Slot("the weights of HPS v2.1", catalog.HPS, kinds.HPS)
PICK_SCORE = Slot("the weights of PickScore", catalog.PICK_SCORE, kinds.PICK_SCORE)
IMAGE_REWARD = Slot("the weights of ImageReward", catalog.IMAGE_REWARD, kinds.IMAGE_REWARD)
BERT_VOCAB = Slot("the words of ImageReward's text encoder", catalog.BERT_VOCAB, endings=(".txt",))
CLIP = Slot("the weights of CLIP", catalog.CLIP_L, kinds.CLIP, ("clip_vision",))
EYES = replace(CLIP, kind=kinds.EYES)
CLIP_TEXT = Slot("the weights of CLIP's text encoder", None, kinds.CLIP_TEXT, ("text_encoders",), optional=True)
AESTHETIC = Slot("the aesthetic predictor's head", catalog.AESTHETIC, kinds.AESTHETIC)


def register_folder() -> None:
    """Makes models/reward_models known to ComfyUI, beside the roots that extra_model_paths.yaml has added before."""
    import folder_paths

    endings = set(folder_paths.supported_pt_extensions) | {".txt"}
    folder_paths.add_model_folder_path(KEY, str(own_folder()))
    roots, known = folder_paths.folder_names_and_paths[KEY]
    folder_paths.folder_names_and_paths[KEY] = (roots, set(known) | endings)


def own_folder() -> Path:
    """ComfyUI's models/reward_models, where downloads go."""
    import folder_paths

    return Path(folder_paths.models_dir) / KEY


def choices(slot: Slot) -> list[str]:
    """What the widget offers, the likeliest first; never empty."""
    found, known = [], slot.known
    if known:
        found += sorted(_offered(slot, KEY), key=lambda name: (Path(name).name != known.name, name))
    for folder in slot.folders:
        found += [f"{folder}: {name}" for name in _offered(slot, folder)]
    if known and (cached := _cached(known)):
        found.append(f"hub: {cached[0]}/{known.path}")
    if slot.optional:
        found.insert(0, NONE)
    if known and not found:
        # The name of what is missing: queueing it says where to get it.
        found.append(known.name)
    if known and not _local(known) and _downloads_allowed():
        found.append(_download_choice(known))
    return found


def find(slot: Slot, value: str) -> Path | None:
    """The file that a widget's value means. None: it is to be downloaded, or (an optional one) there is none.

    Raises ValueError with one sentence when it isn't there, mustn't be used, or is something else.
    """
    path = _find(slot, value)
    if path and slot.kind:
        kinds.require(slot.kind, path, slot.known.choice if slot.known else "another file of the list")
    return path


def _find(slot: Slot, value: str) -> Path | None:
    if not isinstance(value, str):  # ComfyUI lets numbers, lists and null pass
        raise ValueError(f"{slot.what[0].upper()}{slot.what[1:]} must be the name of a file: choose one of the list.")
    if slot.optional and value == NONE:
        return None
    source, _, name = value.partition(": ")
    if source == "download" and name:
        return _downloaded(slot, name)
    if source == "hub" and name:
        return _from_cache(slot, name)
    if name and source in slot.folders:
        return _in_folder(slot, source, name)
    if not slot.known:
        raise ValueError(f"'{value}' isn't {slot.what}: choose a file of the list.")
    return _in_folder(slot, KEY, value)


def is_usable(slot: Slot, value: str | None) -> bool | str:
    """For validate_inputs: True, or why the value can't be used. None is a link, whose value isn't known yet."""
    if value is None:
        return True
    try:
        find(slot, value)
    except ValueError as error:
        return str(error)
    return True


def stamp(slot: Slot, value: str | None) -> tuple:
    """Changes with the file behind a value, so that a replaced file is read anew."""
    if value is None or is_usable(slot, value) is not True or not (path := find(slot, value)):
        return (value,)
    state = path.stat()
    return (value, str(path), state.st_size, state.st_mtime_ns)


# --- folders ------------------------------------------------------------------------------------------------------


def _offered(slot: Slot, folder: str) -> list[str]:
    import folder_paths

    names = folder_paths.get_filename_list(folder) if folder in folder_paths.folder_names_and_paths else []
    return [name for name in names if name.lower().endswith(slot.endings) and _fits(slot.kind, folder, name)]


def _fits(kind: Kind | None, folder: str, name: str) -> bool:
    import folder_paths

    if kind is None:
        return True
    path = folder_paths.get_full_path(folder, name)
    return kinds.may_be_named(kind, name) and path is not None and not kinds.another(kind, path)


def _in_folder(slot: Slot, folder: str, name: str) -> Path:
    """Raises ValueError when it isn't there, or its name leads out of the folder."""
    import folder_paths

    parts = re.split(r"[\\/]", name)
    if ".." in parts or parts[0] == "" or ":" in parts[0] or not name.lower().endswith(slot.endings):
        raise ValueError(f"'{name}' isn't {slot.what}: choose a file of the list, or put one into {_place(folder)}.")
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        instead = "its download" if slot.known and _downloads_allowed() else "another file"
        raise ValueError(f"{_missing(slot, folder, name)}, or choose {instead}.")
    return Path(path)


def _place(folder: str) -> str:
    return f"models/{folder}"


def _missing(slot: Slot, folder: str, name: str) -> str:
    """Which file, which folder, from where, how large: a sentence without its end."""
    file, text = slot.known, f"{slot.what[0].upper()}{slot.what[1:]}, {name}, isn't in ComfyUI's {_place(folder)}"
    if not file:
        return f"{text}: put it there"
    as_name = "" if Path(file.path).name == file.name else f" as {file.name}"
    return f"{text}: put {file.path} of {file.page} ({file.terms}) there{as_name}"


# --- the hub's cache, and downloads -------------------------------------------------------------------------------


def _cached(file: KnownFile) -> tuple[str, Path] | None:
    """(repository, path) of a known file in the cache of huggingface_hub, without asking the hub."""
    root = _hub_cache()
    for repo in (file.repo, *file.twins):
        # Importing the library takes long: only where it can find something.
        if not (root / f"models--{repo.replace('/', '--')}").is_dir():
            continue
        from huggingface_hub import try_to_load_from_cache

        for revision in dict.fromkeys((file.revision, "main")):
            path = try_to_load_from_cache(repo, file.path, cache_dir=root, revision=revision)
            if isinstance(path, str) and os.path.isfile(path):
                return repo, Path(path)
    return None


def _hub_cache() -> Path:
    """As huggingface_hub documents it: HF_HUB_CACHE, or hub in HF_HOME, by default ~/.cache/huggingface."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    given = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or home) / "hub"
    return Path(os.path.expandvars(given)).expanduser()


def _from_cache(slot: Slot, name: str) -> Path:
    file = slot.known
    if not file or name not in [f"{repo}/{file.path}" for repo in (file.repo, *file.twins)]:
        raise ValueError(f"'hub: {name}' isn't {slot.what}: choose a file of the list.")
    if cached := _cached(file):
        return cached[1]
    raise ValueError(
        f"{name} isn't in the Hugging Face cache ({_hub_cache()}): fetch it with `hf download "
        f"{file.repo} {file.path}` ({file.terms}), or choose another file."
    )


def _downloads_allowed() -> bool:
    """For listings, which a broken settings file mustn't break; using a download says what is wrong with it."""
    try:
        return owner_settings.allowed("downloads")
    except ValueError as error:
        logging.warning("MixGRPO: %s", error)
        return False


def _download_choice(file: KnownFile) -> str:
    return f"download: {file.name} ({file.terms})"


def _downloaded(slot: Slot, text: str) -> Path | None:
    """The local file that a "download: ..." value stands for, or None when it has yet to be downloaded."""
    file = slot.known
    # Size and licence in the value are for the reader: another version of this pack may write them differently.
    if not file or text.partition(" (")[0] != file.name:
        raise ValueError(f"'download: {text}' isn't {slot.what}: choose a file of the list.")
    path = _local(file)
    if not path and not owner_settings.allowed("downloads"):
        raise ValueError(
            f"{_missing(slot, KEY, file.name)}; this server's owner can allow its download by "
            f"{owner_settings.VARIABLES['downloads']}=1."
        )
    return path


def _local(file: KnownFile) -> Path | None:
    import folder_paths

    path = folder_paths.get_full_path(KEY, file.name)
    return Path(path) if path else None


register_folder()
