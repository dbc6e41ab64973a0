"""MixGRPO_DiffusersModel: a folder in diffusers' layout as MODEL, CLIP and VAE of ComfyUI's own classes."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..mixgrpo_engine.records.files import read_json
from .category import CATEGORY
from .comfy_types import Clip, Model, Vae

if TYPE_CHECKING:  # imported when the node runs
    from ..mixgrpo_engine.policies.diffusers_folder import DiffusersFolder

INDEX = "model_index.json"
NONE_FOUND = "(no folder in models/diffusers)"
OWN = "the folder's own"
CLIP_TYPES = {"FluxPipeline": "FLUX", "StableDiffusion3Pipeline": "SD3"}
MODEL_CLASSES = {"FluxPipeline": "Flux", "StableDiffusion3Pipeline": "SD3"}
# How diffusers and transformers name the files of a part.
STEMS = {"transformer": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}


class MixGRPODiffusersModel(io.ComfyNode):
    FILES = ("folder", "transformer")

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_DiffusersModel",
            display_name="MixGRPO Diffusers Model",
            category=CATEGORY,
            description="Loads a FLUX.1 or SD3 / SD3.5 model that lies as a diffusers folder in models/diffusers "
            "(transformer, text_encoder, vae ...), without converting its files. Gives MODEL, CLIP and VAE like any "
            "checkpoint loader, for training and for sampling, with the time shift that the folder's scheduler has.",
            inputs=[
                io.Combo.Input(
                    "folder", options=sorted(folders()) or [NONE_FOUND],
                    tooltip="A folder with a model_index.json in ComfyUI's models/diffusers. Nothing is downloaded.",
                ),
                io.Combo.Input(
                    "transformer", options=[OWN, *single_files()], default=OWN, optional=True,
                    tooltip="A .safetensors file of models/diffusion_models that takes the place of the folder's "
                    "transformer; text encoders, VAE and scheduler stay the folder's.",
                ),
                io.Int.Input(
                    "width", default=1024, min=16, max=16384, step=16, optional=True,
                    tooltip="Width of the images that are trained or sampled, in pixels. It only sets the time shift, "
                    "and only where the folder's scheduler lets that grow with the image (FLUX.1-dev): 1024 x 1024 is "
                    "ComfyUI's own default there.",
                ),
                io.Int.Input(
                    "height", default=1024, min=16, max=16384, step=16, optional=True,
                    tooltip="Height of these images in pixels; see width.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The transformer."),
                io.Clip.Output(display_name="clip", tooltip="The text encoders, with ComfyUI's tokenizers."),
                io.Vae.Output(display_name="vae", tooltip="The VAE."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, folder: str, transformer: str = OWN, width: int = 1024, height: int = 1024) -> io.NodeOutput:
        from ..mixgrpo_engine.policies.diffusers_folder import DiffusersFolder

        known = folders()
        if folder not in known:
            raise ValueError(f"There is no model '{folder}' in models/diffusers: put its folder there and reload.")
        source = DiffusersFolder(known[folder], "" if transformer == OWN else single_file(transformer))
        if source.pipeline_class not in CLIP_TYPES:
            raise ValueError(f"{folder} is of {source.family.name}: load it by ComfyUI's own loaders.")
        model = load_model(source)
        set_shift(model, folder_shift(source, width, height))
        return io.NodeOutput(model, load_clip(source), load_vae(source))


def folders() -> dict[str, Path]:
    """name -> path of every folder with a model_index.json below ComfyUI's diffusers folders."""
    import folder_paths

    found: dict[str, Path] = {}
    for root in folder_paths.get_folder_paths("diffusers"):
        for place, inside, files in os.walk(root, followlinks=True):
            if INDEX in files:
                found.setdefault(Path(place).relative_to(root).as_posix(), Path(place))
                inside.clear()  # a model's parts aren't models
    return found


def single_files() -> list[str]:
    """The .safetensors files in ComfyUI's diffusion_models folders."""
    import folder_paths

    return [name for name in folder_paths.get_filename_list("diffusion_models") if name.endswith(".safetensors")]


def single_file(name: str) -> str:
    """The path of one of single_files(). Raises ValueError for any other name."""
    import folder_paths

    if name not in single_files():
        raise ValueError(f"There is no file '{name}' in models/diffusion_models: put it there and reload.")
    return folder_paths.get_full_path_or_raise("diffusion_models", name)


def load_model(source: DiffusersFolder) -> Model:
    """The transformer as an ordinary MODEL.

    Raises ValueError when ComfyUI doesn't know it, or a single file's isn't of the folder's family.
    """
    import comfy.model_base

    model = _single_transformer(source.transformer_file) if source.transformer_file else _own_transformer(source.path)
    if not isinstance(model.model, getattr(comfy.model_base, MODEL_CLASSES[source.pipeline_class])):
        raise ValueError(
            f"{source.transformer_file or source.path / 'transformer'} is a {type(model.model).__name__}, and the "
            f"folder {source.path.name} is of {source.family.name}: choose a transformer of that family."
        )
    return model


def _own_transformer(folder: Path) -> Model:
    import comfy.sd

    model = comfy.sd.load_diffusion_model_state_dict(read_weights(folder / "transformer"))
    if model is None:
        raise ValueError(f"ComfyUI doesn't know the model in {folder.name}/transformer: use a newer ComfyUI.")
    return model


def _single_transformer(file: Path) -> Model:
    import comfy.sd

    try:
        return comfy.sd.load_diffusion_model(str(file))
    except RuntimeError as error:  # what ComfyUI raises for tensors that it can't make a model of
        raise ValueError(f"{file.name} can't be loaded as a transformer: choose another file. {error}") from error


def folder_shift(source: DiffusersFolder, width: int, height: int) -> float:
    """The time shift that the folder's scheduler has for images of this size in pixels.

    Raises ValueError for one that isn't above 0.
    """
    from ..mixgrpo_engine.policies.time_shift import image_tokens, time_shift

    file = source.path / "scheduler" / "scheduler_config.json"
    shift = time_shift(read_json(file), image_tokens(width, height))
    if not shift > 0:
        raise ValueError(f"{file} asks for a time shift of {shift:g}: it must be above 0, so copy the file again.")
    return shift


def set_shift(model: Model, shift: float) -> None:
    """Gives a freshly loaded MODEL another time shift s, as in sigma = s * t / (1 + (s - 1) * t)."""
    import comfy.model_sampling

    sampling = model.get_model_object("model_sampling")
    if isinstance(sampling, comfy.model_sampling.ModelSamplingFlux):
        sampling.set_parameters(shift=math.log(shift))
    else:
        sampling.set_parameters(shift=shift, multiplier=sampling.multiplier)


def load_clip(source: DiffusersFolder) -> Clip:
    """The text encoders as one CLIP."""
    import comfy.sd
    import folder_paths

    parts = [part for part in source.parts() if part.startswith("text_encoder")]
    return comfy.sd.load_text_encoder_state_dicts(
        [read_weights(source.path / part) for part in parts],
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        clip_type=getattr(comfy.sd.CLIPType, CLIP_TYPES[source.pipeline_class]),
    )


def load_vae(source: DiffusersFolder) -> Vae:
    import comfy.sd

    vae = comfy.sd.VAE(sd=read_weights(source.path / "vae"))
    vae.throw_exception_if_invalid()
    return vae


def read_weights(part: Path) -> dict:
    """The tensors of a part's folder, in one file or in several that an index names.

    Raises FileNotFoundError or ValueError with one sentence.
    """
    import comfy.utils

    tensors = {}
    for file in _weight_files(part):
        if not file.is_file():
            raise FileNotFoundError(f"{part.parent.name}/{part.name} lacks {file.name}: copy the whole model there.")
        tensors.update(comfy.utils.load_torch_file(str(file), safe_load=True))
    return tensors


def _weight_files(part: Path) -> list[Path]:
    """The full-precision files where there are any, else the variant fp16's."""
    stem = STEMS.get(part.name, "model")
    for variant in ("", ".fp16"):
        single, index = part / f"{stem}{variant}.safetensors", part / f"{stem}.safetensors.index{variant}.json"
        if single.is_file():
            return [single]
        if index.is_file():
            return _shards(index)
    raise FileNotFoundError(
        f"{part.parent.name}/{part.name} holds no {stem}.safetensors: copy the whole model there, as safetensors."
    )


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index} names no files: copy it again.")
    for name in names.values():
        # The folder may come from a stranger: its index leads nowhere else.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{index} names '{name}', which isn't a .safetensors file beside it: copy it again.")
    return [index.parent / name for name in sorted(set(names.values()))]


NODES = [MixGRPODiffusersModel]
