"""MixGRPO_DiffusersModel: a folder in diffusers' layout as MODEL, CLIP and VAE of ComfyUI's own classes."""

from __future__ import annotations

import os
from pathlib import Path

from comfy_api.latest import io

from ..mixgrpo_engine.files import read_json
from .category import CATEGORY

INDEX = "model_index.json"
NONE_FOUND = "(no folder in models/diffusers)"
CLIP_TYPES = {"FluxPipeline": "FLUX", "StableDiffusion3Pipeline": "SD3"}
# How diffusers and transformers name the files of a part.
STEMS = {"transformer": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}


class MixGRPODiffusersModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_DiffusersModel",
            display_name="MixGRPO Diffusers Model",
            category=CATEGORY,
            description="Loads a FLUX.1 or SD3 / SD3.5 model that lies as a diffusers folder in models/diffusers "
            "(transformer, text_encoder, vae ...), without converting its files. Gives MODEL, CLIP and VAE like any "
            "checkpoint loader, for training and for sampling.",
            inputs=[
                io.Combo.Input(
                    "folder", options=sorted(folders()) or [NONE_FOUND],
                    tooltip="A folder with a model_index.json in ComfyUI's models/diffusers. Nothing is downloaded.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The transformer."),
                io.Clip.Output(display_name="clip", tooltip="The text encoders, with ComfyUI's tokenizers."),
                io.Vae.Output(display_name="vae", tooltip="The VAE."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, folder) -> io.NodeOutput:
        from ..mixgrpo_engine.policies.diffusers_folder import DiffusersFolder

        known = folders()
        if folder not in known:
            raise ValueError(f"There is no model '{folder}' in models/diffusers: put its folder there and reload.")
        source = DiffusersFolder(known[folder])
        return io.NodeOutput(load_model(source), load_clip(source), load_vae(source))


def folders() -> dict[str, Path]:
    """name -> path of every folder with a model_index.json below ComfyUI's diffusers folders."""
    import folder_paths

    found = {}
    for root in folder_paths.get_folder_paths("diffusers"):
        for place, inside, files in os.walk(root, followlinks=True):
            if INDEX in files:
                found.setdefault(Path(place).relative_to(root).as_posix(), Path(place))
                inside.clear()  # a model's parts aren't models
    return found


def load_model(source):
    """The transformer as an ordinary MODEL. Raises ValueError when ComfyUI doesn't know it."""
    import comfy.sd

    model = comfy.sd.load_diffusion_model_state_dict(read_weights(source.path / "transformer"))
    if model is None:
        raise ValueError(f"ComfyUI doesn't know the model in {source.path.name}/transformer: use a newer ComfyUI.")
    return model


def load_clip(source):
    """The text encoders as one CLIP."""
    import comfy.sd
    import folder_paths

    parts = [part for part in source.parts() if part.startswith("text_encoder")]
    return comfy.sd.load_text_encoder_state_dicts(
        [read_weights(source.path / part) for part in parts],
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        clip_type=getattr(comfy.sd.CLIPType, CLIP_TYPES[source.pipeline_class]),
    )


def load_vae(source):
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
