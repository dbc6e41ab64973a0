"""The published model files that templates name, so that the frontend can say which are missing and where they are.

Addresses and folders as in ComfyUI's own templates; sizes and licences as their pages state them.
"""

from __future__ import annotations

from dataclasses import dataclass

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class ModelFile:
    """One file on the Hugging Face hub, which keeps its name on the disk."""

    name: str
    folder: str  # of ComfyUI's models
    repo: str  # "owner/name" on the hub
    path: str  # the file's path in it
    terms: str  # size and licence, for a person

    @property
    def page(self) -> str:
        return f"{HUB}/{self.repo}"

    @property
    def url(self) -> str:
        return f"{self.page}/resolve/main/{self.path}"


_T5, _DEV = "comfyanonymous/flux_text_encoders", "FLUX.1 [dev] Non-Commercial License"

SD35_MEDIUM = ModelFile(
    "sd3.5_medium.safetensors", "checkpoints", "stabilityai/stable-diffusion-3.5-medium", "sd3.5_medium.safetensors",
    "5.1 GB, Stability Community License (accept it on the page)",
)  # fmt: skip
CLIP_G = ModelFile(
    "clip_g.safetensors", "text_encoders", "Comfy-Org/stable-diffusion-3.5-fp8", "text_encoders/clip_g.safetensors",
    "1.4 GB, MIT",
)  # fmt: skip
CLIP_L = ModelFile("clip_l.safetensors", "text_encoders", _T5, "clip_l.safetensors", "246 MB, MIT")
T5_FP8 = ModelFile(
    "t5xxl_fp8_e4m3fn.safetensors", "text_encoders", _T5, "t5xxl_fp8_e4m3fn.safetensors", "4.9 GB, Apache-2.0"
)
T5_FP16 = ModelFile("t5xxl_fp16.safetensors", "text_encoders", _T5, "t5xxl_fp16.safetensors", "9.8 GB, Apache-2.0")
FLUX_DEV_FP8 = ModelFile(
    "flux1-dev-fp8.safetensors", "checkpoints", "Comfy-Org/flux1-dev", "flux1-dev-fp8.safetensors", f"17.2 GB, {_DEV}"
)
FLUX_DEV = ModelFile(
    "flux1-dev.safetensors", "diffusion_models", "Comfy-Org/flux1-dev", "flux1-dev.safetensors", f"23.8 GB, {_DEV}"
)
FLUX_VAE = ModelFile(
    "ae.safetensors", "vae", "Comfy-Org/Lumina_Image_2.0_Repackaged", "split_files/vae/ae.safetensors",
    "335 MB, Apache-2.0",
)  # fmt: skip

_Z, _QWEN, _WAN = "Comfy-Org/z_image", "Comfy-Org/Qwen-Image_ComfyUI", "Comfy-Org/Wan_2.2_ComfyUI_Repackaged"


def _split(name: str, folder: str, repo: str, terms: str) -> ModelFile:
    """A file of one of ComfyUI's own repositories, which have the folders of models in "split_files"."""
    return ModelFile(name, folder, repo, f"split_files/{folder}/{name}", terms)


Z_IMAGE = _split("z_image_bf16.safetensors", "diffusion_models", _Z, "12.3 GB, Apache-2.0")
QWEN3_4B = _split("qwen_3_4b.safetensors", "text_encoders", "Comfy-Org/z_image_turbo", "8.0 GB, Apache-2.0")
QWEN_IMAGE = _split("qwen_image_fp8_e4m3fn.safetensors", "diffusion_models", _QWEN, "20.4 GB, Apache-2.0")
QWEN_VL = _split("qwen_2.5_vl_7b_fp8_scaled.safetensors", "text_encoders", _QWEN, "9.4 GB, Apache-2.0")
QWEN_VAE = _split("qwen_image_vae.safetensors", "vae", _QWEN, "254 MB, Apache-2.0")
KLEIN_4B = ModelFile(
    "flux-2-klein-base-4b-fp8.safetensors", "diffusion_models", "black-forest-labs/FLUX.2-klein-base-4b-fp8",
    "flux-2-klein-base-4b-fp8.safetensors", "about 4 GB, Apache-2.0",
)  # fmt: skip
FLUX2_VAE = _split("flux2-vae.safetensors", "vae", "Comfy-Org/flux2-dev", "336 MB, Apache-2.0")
CHROMA = ModelFile(
    "Chroma1-HD-fp8_scaled_rev2.safetensors", "diffusion_models", "silveroxides/Chroma1-HD-fp8-scaled",
    "Chroma1-HD-fp8_scaled_rev2.safetensors", "about 9 GB, Apache-2.0",
)  # fmt: skip
WAN22_5B = _split("wan2.2_ti2v_5B_fp16.safetensors", "diffusion_models", _WAN, "10.0 GB, Apache-2.0")
UMT5 = _split(
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders", "Comfy-Org/Wan_2.1_ComfyUI_repackaged",
    "6.7 GB, Apache-2.0",
)  # fmt: skip
WAN22_VAE = _split("wan2.2_vae.safetensors", "vae", _WAN, "1.4 GB, Apache-2.0")

FILES = (
    SD35_MEDIUM, CLIP_G, CLIP_L, T5_FP8, T5_FP16, FLUX_DEV_FP8, FLUX_DEV, FLUX_VAE, Z_IMAGE, QWEN3_4B, QWEN_IMAGE,
    QWEN_VL, QWEN_VAE, KLEIN_4B, FLUX2_VAE, CHROMA, WAN22_5B, UMT5, WAN22_VAE,
)  # fmt: skip
