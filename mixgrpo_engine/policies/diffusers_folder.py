"""A model folder in diffusers' layout: what it says it is, and its parts, each loaded for itself and from disk only.

model_index.json names classes and the libraries they come from. A folder may come from a stranger, so it only chooses
among the families below; no class is imported because a folder names it, and no weights but safetensors are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..records.files import read_json

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ModelMixin

INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model"  # without its ending; a text encoder's are called model
WORDS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",))  # a tokenizer has one of these


@dataclass(frozen=True)
class Family:
    """One pipeline class of diffusers."""

    name: str
    transformer: str  # class in diffusers
    text_parts: dict[str, str]  # subfolder -> class in transformers
    sequence_length: int  # of a prompt in T5's tokens; the pipeline's own default
    guidance: float  # the pipeline's own default where guidance is embedded
    packed: bool = False  # the transformer takes 2x2 patches of the latents as tokens


FAMILIES = {
    "FluxPipeline": Family(
        "FLUX.1",
        "FluxTransformer2DModel",
        {
            "text_encoder": "CLIPTextModel",
            "tokenizer": "CLIPTokenizer",
            "text_encoder_2": "T5EncoderModel",
            "tokenizer_2": "T5TokenizerFast",
        },
        sequence_length=512,
        guidance=3.5,
        packed=True,
    ),
    "StableDiffusion3Pipeline": Family(
        "SD3",
        "SD3Transformer2DModel",
        {
            "text_encoder": "CLIPTextModelWithProjection",
            "tokenizer": "CLIPTokenizer",
            "text_encoder_2": "CLIPTextModelWithProjection",
            "tokenizer_2": "CLIPTokenizer",
            "text_encoder_3": "T5EncoderModel",
            "tokenizer_3": "T5TokenizerFast",
        },
        sequence_length=256,
        guidance=0.0,
    ),
    "ChromaPipeline": Family(
        "Chroma",
        "ChromaTransformer2DModel",
        {"text_encoder": "T5EncoderModel", "tokenizer": "T5TokenizerFast"},
        sequence_length=512,
        guidance=0.0,
        packed=True,
    ),
}


class DiffusersFolder:
    """The parts of a FLUX.1, SD3 / SD3.5 or Chroma folder. Nothing is ever downloaded."""

    def __init__(self, path: str | Path, transformer_file: str | Path = "") -> None:
        """transformer_file: a single .safetensors file whose weights replace the folder's transformer; its config
        stays the folder's.

        Raises FileNotFoundError or ValueError with one sentence for a folder that isn't whole, or of another model.
        """
        self.path = Path(path)
        self.transformer_file = Path(transformer_file) if str(transformer_file) not in ("", ".") else None
        self.index = self._read_index()
        pipeline_class = self.index.get("_class_name")
        if pipeline_class not in FAMILIES:
            raise ValueError(
                f"{self.path} is a {pipeline_class}, which can't be trained as a folder: use one of "
                f"{', '.join(FAMILIES)}, or train it in ComfyUI, by its own loaders."
            )
        self.pipeline_class: str = pipeline_class
        self.family = FAMILIES[pipeline_class]
        self._check_parts()

    def parts(self) -> list[str]:
        """The text encoders and tokenizers that the folder has; SD3 may go without T5."""
        return [part for part in self.family.text_parts if self._has(part)]

    def require_files(self) -> None:
        """Raises FileNotFoundError that names the first file without which a part can't be loaded.

        Before anything is loaded: the libraries name some only after minutes, and read a tokenizer without its words.
        """
        for part in ("scheduler", *self.parts(), "vae", "transformer"):
            folder = self.path / part
            if part.startswith("tokenizer"):
                if not any(all((folder / name).is_file() for name in names) for names in WORDS):
                    either = " nor ".join(" with ".join(names) for names in WORDS)
                    raise FileNotFoundError(f"{folder} holds neither {either}: copy the whole model there.")
                continue
            wanted = [folder / ("scheduler_config.json" if part == "scheduler" else "config.json")]
            if part != "scheduler" and not (part == "transformer" and self.transformer_file):
                stem = "model" if part.startswith("text_encoder") else WEIGHTS
                wanted += _weight_files(folder, stem)
            for path in wanted:
                if not path.is_file():
                    raise FileNotFoundError(f"{path} is missing: copy the whole model there, as safetensors.")

    def transformer(self, dtype: torch.dtype) -> ModelMixin:
        import diffusers

        kind = getattr(diffusers, self.family.transformer)
        options = {"subfolder": "transformer", "torch_dtype": dtype, "local_files_only": True}
        if self.transformer_file:
            return kind.from_single_file(str(self.transformer_file), config=str(self.path), **options)
        return kind.from_pretrained(self.path, use_safetensors=True, **options)

    def empty_transformer(self, dtype: torch.dtype) -> ModelMixin:
        """The transformer with uninitialized weights on the CPU, which take no memory until they are written to."""
        import diffusers

        kind = getattr(diffusers, self.family.transformer)
        with torch.device("meta"):
            empty = kind.from_config(self._transformer_config())
        return empty.to(dtype).to_empty(device="cpu")

    def vae(self) -> AutoencoderKL:
        """The VAE in float32: it is small, and in half precision some pictures come out black."""
        from diffusers import AutoencoderKL

        return AutoencoderKL.from_pretrained(
            self.path, subfolder="vae", torch_dtype=torch.float32, local_files_only=True, use_safetensors=True
        )

    def scheduler(self) -> FlowMatchEulerDiscreteScheduler:
        """Raises ValueError for one whose noise levels are more than a time shift of uniform ones."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        config = read_json(self.path / "scheduler" / "scheduler_config.json")
        if not str(config.get("_class_name", "")).startswith("FlowMatch"):
            raise ValueError(
                f"{self.path}/scheduler is a {config.get('_class_name')}: a FlowMatchEulerDiscreteScheduler is needed."
            )
        odd = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "invert_sigmas", "shift_terminal")
        for name in odd:
            if config.get(name):
                raise ValueError(f"{self.path}/scheduler sets {name}, which training doesn't know: set it to null.")
        return FlowMatchEulerDiscreteScheduler.from_pretrained(self.path, subfolder="scheduler", local_files_only=True)

    def text_pipeline(self, dtype: torch.dtype, device: torch.device) -> DiffusionPipeline:
        """The pipeline with its tokenizers and text encoders and nothing else."""
        import diffusers
        import transformers

        parts: dict[str, Any] = {}
        for part, kind in self.family.text_parts.items():
            # Newer versions of transformers call it dtype, and still know the old name.
            options = {} if part.startswith("tokenizer") else {"torch_dtype": dtype, "use_safetensors": True}
            parts[part] = None
            if self._has(part):
                parts[part] = getattr(transformers, kind).from_pretrained(
                    self.path / part, local_files_only=True, **options
                )
        kind = getattr(diffusers, self.pipeline_class)
        pipeline = kind(scheduler=self.scheduler(), vae=None, transformer=None, **parts).to(device)
        # SD3's asks the transformer how wide the prompt is that it makes up where there is no T5.
        pipeline.transformer = SimpleNamespace(config=SimpleNamespace(**self._transformer_config()))
        return pipeline

    def _read_index(self) -> dict:
        if not self.path.is_dir():
            raise FileNotFoundError(f"There is no model folder {self.path}: name a folder in diffusers' layout.")
        try:
            return read_json(self.path / INDEX)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path} holds no {INDEX}: name the folder that the pipeline was saved in."
            ) from None

    def _transformer_config(self) -> dict:
        return read_json(self.path / "transformer" / "config.json")

    def _check_parts(self) -> None:
        for part in ("transformer", "vae", "scheduler", *self.family.text_parts):
            replaced = part == "transformer" and self.transformer_file
            if (part in ("transformer", "vae", "scheduler") or self._has(part)) and not (self.path / part).is_dir():
                raise FileNotFoundError(f"{self.path} has no folder '{part}': copy the whole model there.")
            if part in ("transformer", "vae") and not replaced and not list((self.path / part).glob("*.safetensors")):
                raise FileNotFoundError(
                    f"{self.path / part} holds no {WEIGHTS}.safetensors: copy the whole model there."
                )
        file = self.transformer_file
        if file and file.suffix != ".safetensors":
            raise ValueError(f"The transformer's file {file} must be a .safetensors file.")
        if file and not file.is_file():
            raise FileNotFoundError(f"There is no transformer file {file}: check its path.")

    def _has(self, part: str) -> bool:
        """Whether the index has the part; SD3 may go without T5, which is then [null, null]."""
        entry = self.index.get(part)
        return isinstance(entry, list) and len(entry) == 2 and all(entry)


def _weight_files(folder: Path, stem: str) -> list[Path]:
    """Those that must be there: one, or the shards that an index names."""
    whole, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        return [index if list(folder.glob(f"{stem}-*.safetensors")) else whole]
    names = read_json(index).get("weight_map")
    return [folder / str(name) for name in sorted(set(names.values()))] if isinstance(names, dict) else []


@torch.no_grad()
def encode(
    pipeline: DiffusionPipeline, prompts: Sequence[str], device: torch.device, sequence_length: int
) -> dict[str, Tensor]:
    """{"tokens": (prompts, tokens, width), "pooled": (prompts, width)} as the pipeline itself encodes prompts.

    Chroma pools nothing: in the place of that is its mask, (prompts, tokens), 1 for each token that is seen.
    """
    options = {"device": device, "num_images_per_prompt": 1, "max_sequence_length": sequence_length}
    if type(pipeline).__name__ == "FluxPipeline":
        tokens, pooled, _ = pipeline.encode_prompt(list(prompts), None, **options)
    elif type(pipeline).__name__ == "ChromaPipeline":
        tokens, _, pooled, *_ = pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False, **options)
    else:
        tokens, _, pooled, _ = pipeline.encode_prompt(
            list(prompts), None, None, do_classifier_free_guidance=False, **options
        )
    return {"tokens": tokens.cpu(), "pooled": pooled.cpu()}


def reads_whole(pipeline: DiffusionPipeline, prompt: str, sequence_length: int) -> dict[str, bool]:
    """By text encoder, whether it reads all of a prompt when encode() is given that length."""
    whole = {}
    for part, kind in FAMILIES[type(pipeline).__name__].text_parts.items():
        tokenizer = getattr(pipeline, part) if part.startswith("tokenizer") else None
        if tokenizer is not None:  # SD3 may go without T5
            limit = sequence_length if kind.startswith("T5") else pipeline.tokenizer_max_length
            tokens = tokenizer(prompt, truncation=False, verbose=False)["input_ids"]
            whole[part.replace("tokenizer", "text_encoder")] = len(tokens) <= limit
    return whole
