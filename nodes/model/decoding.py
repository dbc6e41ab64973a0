"""Latents to images through a VAE: in tiles where an image is too large, and off the device afterwards."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from ...mixgrpo_engine.memory.micro_batches import give_back_memory, is_out_of_memory
from ..comfy_types import Vae

CACHED = 1024  # places of latents that a CPU decodes at once: the activations of more leave its caches
TILES = {4: 64, 5: 32}  # latents' dimensions -> side of a tile in latents, as ComfyUI itself decodes in tiles


def decode_images(vae: Vae, samples: Tensor, tiled: bool = False) -> Tensor:
    """A VAE's latents (batch, ...) to images: float32 (batch, height, width, 3) in 0..1, on the CPU.

    tiled: image by image in overlapping tiles, which needs far less memory and differs a little at the seams. It is
    done so, too, where memory runs out, on devices that ComfyUI doesn't know it from.
    Raises RuntimeError that says so where even that is too much: smaller model calls wouldn't help.
    """
    try:
        images = None if tiled else _in_one(vae, samples)
        if images is None:
            side = TILES[samples.ndim]
            images = vae.decode_tiled(samples, tile_x=side, tile_y=side, overlap=side // 4)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise RuntimeError(
            "Out of memory in the VAE, even in tiles: train smaller images, or end other programs that use the GPU. "
            f"({error})"
        ) from error
    return images.flatten(0, -4)[..., :3].float().cpu().clamp(0, 1)


def _in_one(vae: Vae, samples: Tensor) -> Tensor | None:
    """None where memory runs out."""
    at_once = max(1, CACHED // samples[0, 0].numel()) if vae.device.type == "cpu" else len(samples)
    try:
        parts = [vae.decode(part) for part in samples.split(at_once)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    give_back_memory()  # outside the except block: the error holds on to the tensors of the failed work
    return None


def needs_tiles(vae: Vae, shape: torch.Size) -> bool:
    """Whether one image of latents (batch, ...) takes more than is free on the VAE's device, by ComfyUI's estimate.

    For a process in which nothing can be unloaded for the VAE's sake.
    """
    free = free_bytes(vae.device) - bytes_to_move(vae.first_stage_model, vae.device)
    return decode_bytes(vae, (1, *shape[1:])) > free


def tile_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a tile of one image's latents (channels, ..., height, width)."""
    side = TILES[len(shape) + 1]
    return (*shape[:-2], min(side, shape[-2]), min(side, shape[-1]))


def decode_bytes(vae: Vae, shape: tuple[int, ...]) -> int:
    """ComfyUI's own estimate for decoding latents of this shape (batch, channels, ...)."""
    return int(vae.memory_used_decode(shape, vae.vae_dtype))


def unload(vae: Vae) -> None:
    """Takes the VAE off a GPU until it is needed again; other models stay where they are."""
    import comfy.model_management as management

    if vae.device.type == "cpu":
        return
    others = [loaded for loaded in management.current_loaded_models if loaded.model is not vae.patcher]
    management.free_memory(1e30, vae.device, keep_loaded=others)


def free_bytes(device: torch.device) -> int:
    """What is free on the device, what torch holds without using it included; on the CPU what is available."""
    import comfy.model_management

    return int(comfy.model_management.get_free_memory(device))


def bytes_to_move(module: nn.Module, device: torch.device) -> int:
    """Of the tensors that aren't on the device yet."""
    tensors = {id(t): t for t in itertools.chain(module.parameters(), module.buffers()) if t.device != device}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
