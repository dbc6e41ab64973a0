"""Names for ComfyUI's objects: its Python API has no types, but a reader sees what a parameter is."""

from __future__ import annotations

from typing import Any, TypeAlias

Model: TypeAlias = Any  # MODEL: comfy.model_patcher.ModelPatcher
Clip: TypeAlias = Any  # CLIP: comfy.sd.CLIP
Vae: TypeAlias = Any  # VAE: comfy.sd.VAE
Sampler: TypeAlias = Any  # SAMPLER: comfy.samplers.Sampler
Denoiser: TypeAlias = Any  # what a sampler calls: a CFGGuider, or comfy.samplers.KSamplerX0Inpaint around it
Conditioning: TypeAlias = list[Any]  # CONDITIONING: [[tokens, {key: value}], ...]

BaseModel: TypeAlias = Any  # what a MODEL holds: comfy.model_base.BaseModel, an nn.Module
Network: TypeAlias = Any  # what that or a VAE holds: an nn.Module of ComfyUI's own
ModelSampling: TypeAlias = Any  # a MODEL's noise levels: one of comfy.model_sampling
LatentFormat: TypeAlias = Any  # comfy.latent_formats.LatentFormat

DynamicPrompt: TypeAlias = Any  # the queued graph: comfy_execution.graph.DynamicPrompt
PromptServer: TypeAlias = Any  # server.PromptServer
