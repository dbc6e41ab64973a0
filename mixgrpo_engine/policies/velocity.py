"""The trainable part of a diffusers policy: a transformer of FLUX.1, SD3 or Chroma as a velocity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..gradient_scale import GradientScale

if TYPE_CHECKING:
    from diffusers import ModelMixin


@dataclass(frozen=True)
class PromptTensors:
    """One encoded prompt, on the model's device. tokens: (tokens, width); pooled: (width,), or Chroma's mask."""

    tokens: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class PromptRows:
    """A Condition: one encoded prompt a row, and the negative prompt where there is guidance by one."""

    rows: list[PromptTensors]
    negative: PromptTensors | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, rows: Sequence[int]) -> PromptRows:
        return PromptRows([self.rows[row] for row in rows], self.negative)

    def stacked(self) -> tuple[Tensor, Tensor]:
        """(tokens, pooled): (rows, tokens, width), (rows, width); with a negative prompt first as many rows of it."""
        negative = [self.negative] * len(self.rows) if self.negative else []
        every = [*negative, *self.rows]
        return torch.stack([row.tokens for row in every]), torch.stack([row.pooled for row in every])


class Velocity(nn.Module):
    """`module(latents, sigma, condition) -> velocity`, float32, shape as latents (batch, channels, height, width)."""

    def __init__(self, transformer: ModelMixin, cfg: float) -> None:
        """cfg: classifier-free guidance, v_negative + cfg * (v - v_negative); 1 makes no second call."""
        super().__init__()
        self.transformer = transformer
        self.cfg = cfg
        weights = list(transformer.parameters())
        trained = [parameter for parameter in weights if parameter.requires_grad]
        self.gradient_scale = GradientScale(trained) if weights[0].dtype == torch.float16 else None
        # The classes of its blocks: what is put together at a time where the weights are split (sharding.py).
        self._no_split_modules = transformer._no_split_modules

    def forward(self, latents: Tensor, sigma: float | Tensor, condition: PromptRows) -> Tensor:
        """sigma: in (0, 1], or float32 (batch,), one a latent; condition: one row a latent."""
        if len(condition) != len(latents):
            raise ValueError(f"{len(latents)} latents came with {len(condition)} prompts: one prompt a latent.")
        guided = condition.negative is not None
        sigma = sigma if isinstance(sigma, Tensor) else latents.new_full((len(latents),), sigma)
        tokens, pooled = condition.stacked()
        if guided:
            latents, sigma = torch.cat([latents, latents]), torch.cat([sigma, sigma])
        dtype = next(self.transformer.parameters()).dtype
        velocity = self.call(latents.to(dtype), sigma, tokens.to(dtype), pooled.to(dtype)).float()
        if guided:
            negative, positive = velocity.chunk(2)
            velocity = negative + self.cfg * (positive - negative)
        return velocity if self.gradient_scale is None else self.gradient_scale.applied(velocity)

    def enable_checkpointing(self) -> None:
        """Activations are computed twice from now on, not kept."""
        self.transformer.enable_gradient_checkpointing()

    def call(self, latents: Tensor, sigma: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
        """The transformer's output, in the latents' shape."""
        raise NotImplementedError


class SD3Velocity(Velocity):
    def call(self, latents: Tensor, sigma: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
        return self.transformer(
            hidden_states=latents,
            timestep=1000 * sigma,
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            return_dict=False,
        )[0]


class FluxVelocity(Velocity):
    """FLUX.1 sees 2x2 patches of the latents as tokens, and their places."""

    def __init__(self, transformer: ModelMixin, cfg: float, guidance: float) -> None:
        """guidance: what models distilled from guidance ([dev]) are told of its scale; others don't see it."""
        super().__init__(transformer, cfg)
        self.guidance = guidance if transformer.config.guidance_embeds else None

    def call(self, latents: Tensor, sigma: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
        height, width = latents.shape[-2:]
        told = None if self.guidance is None else torch.full_like(sigma, self.guidance)
        output = self.transformer(
            hidden_states=pack(latents),
            timestep=sigma,
            guidance=told,
            pooled_projections=pooled,
            encoder_hidden_states=tokens,
            txt_ids=tokens.new_zeros(tokens.shape[1], 3),
            img_ids=image_ids(height, width, latents),
            return_dict=False,
        )[0]
        return unpack(output, height, width)


class ChromaVelocity(Velocity):
    """FLUX.1's tokens without guidance and pooled prompts; a mask says which of the prompt's tokens are seen."""

    mask: Tensor  # of the present call, over the prompt's and the image's tokens

    def enable_checkpointing(self) -> None:
        self.transformer.enable_gradient_checkpointing(self._checkpointed)

    def _checkpointed(self, block: nn.Module, *inputs: Any) -> Any:
        """diffusers' own (0.42) leaves the mask out of the single blocks, which the rollout's calls have."""
        if len(inputs) == 3:
            inputs = (*inputs, self.mask)
        return checkpoint(block, *inputs, use_reentrant=False)

    def call(self, latents: Tensor, sigma: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
        height, width = latents.shape[-2:]
        packed = pack(latents)
        self.mask = torch.cat([pooled, pooled.new_ones(packed.shape[:2])], dim=1)
        output = self.transformer(
            hidden_states=packed,
            timestep=sigma,
            encoder_hidden_states=tokens,
            txt_ids=tokens.new_zeros(tokens.shape[1], 3),
            img_ids=image_ids(height, width, latents),
            attention_mask=self.mask,
            return_dict=False,
        )[0]
        return unpack(output, height, width)


def pack(latents: Tensor) -> Tensor:
    """(batch, channels, height, width) to (batch, height / 2 * width / 2, channels * 4)."""
    patches = latents.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # batch, channels, rows, 2, columns, 2
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The reverse of pack; height, width: of the latents."""
    patches = tokens.unflatten(1, (height // 2, width // 2)).unflatten(3, (-1, 2, 2))
    return patches.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def image_ids(height: int, width: int, like: Tensor) -> Tensor:
    """(patches, 3): 0, row and column of every 2x2 patch of latents of that size; dtype and device as `like`."""
    rows = torch.arange(height // 2, dtype=like.dtype, device=like.device)
    columns = torch.arange(width // 2, dtype=like.dtype, device=like.device)
    ids = torch.zeros(len(rows), len(columns), 3, dtype=like.dtype, device=like.device)
    ids[..., 1], ids[..., 2] = rows[:, None], columns[None]
    return ids.flatten(0, 1)
