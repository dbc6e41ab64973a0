"""Encoded prompts as a model's inputs: prepared by the model class, batched by equal shapes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...mixgrpo_engine.transfers import send
from ..comfy_types import BaseModel, Conditioning

# What the sampler honours on a conditioning but a training prompt can't have.
_UNSUPPORTED = ("hooks", "control", "area", "mask", "gligen", "start_percent", "end_percent", "clip_start_percent")
_UUIDS = (uuid.uuid4(), uuid.uuid4())

ModelInputs = dict[str, Any]  # name -> comfy.conds.COND*, batch 1


@dataclass(frozen=True)
class Call:
    """One call of the model: which rows of the (doubled, if guided) batch go in, with which inputs."""

    rows: Tensor | None  # (n,) indices on the device; None takes all rows as they are
    inputs: dict[str, Any]
    cond_or_uncond: list[int]  # 0 prompt, 1 negative prompt, one an equal chunk of the rows

    @property
    def uuids(self) -> list[uuid.UUID]:
        return [_UUIDS[kind] for kind in self.cond_or_uncond]


class PromptCondition:
    """One row a prompt; rows of the same prompt share their inputs. Implements the engine's Condition."""

    def __init__(self, rows: Sequence[ModelInputs], negative: ModelInputs | None, device: torch.device) -> None:
        """negative: the negative prompt's inputs, None without guidance."""
        self.rows = list(rows)
        self.negative = negative
        self.device = device
        self._plan: tuple[list[Call], Tensor | None] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def guided(self) -> bool:
        return self.negative is not None

    def select(self, rows: Sequence[int]) -> PromptCondition:
        return PromptCondition([self.rows[row] for row in rows], self.negative, self.device)

    def plan(self) -> tuple[list[Call], Tensor | None]:
        """The model calls for this batch, and the order that brings their joined outputs back into row order.

        With guidance the batch is twice as long: first all prompts, then the negative prompt as often. The order is
        None when there is one call. Made at the first use and kept: a rollout asks for it at every step.
        """
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    def _make_plan(self) -> tuple[list[Call], Tensor | None]:
        size, negative = len(self.rows), self.negative
        groups = _group(self.rows)
        if len(groups) == 1 and (negative is None or _same_shape(self.rows[0], negative)):
            batch = self.rows if negative is None else self.rows + [negative] * size
            return [Call(None, _batch(batch, self.device), [0] if negative is None else [0, 1])], None
        # A call holds prompts or negatives, never both in unequal parts: patches go by cond_or_uncond.
        parts = [(group, [self.rows[row] for row in group], 0) for group in groups]
        if negative is not None:
            parts.append((list(range(size, 2 * size)), [negative] * size, 1))
        calls = [
            Call(_to_device(torch.tensor(rows), self.device), _batch(inputs, self.device), [kind])
            for rows, inputs, kind in parts
        ]
        order = torch.tensor([row for rows, _, _ in parts for row in rows]).argsort()
        return calls, _to_device(order, self.device)


def model_inputs(
    model: BaseModel, conditioning: Conditioning, noise: Tensor, device: torch.device, kind: str
) -> ModelInputs:
    """A prompt's conditioning through the model class's own extra_conds, as ComfyUI's samplers do it.

    noise: (1, ...), the latents' shape. kind: "positive" or "negative". Raises ValueError for conditionings that
    change during sampling or cover a part of the image.
    """
    import comfy.sampler_helpers
    import comfy.samplers

    if len(conditioning) != 1:
        raise ValueError("A prompt has several conditionings: training needs a CLIP without scheduled hooks.")
    for key in _UNSUPPORTED:
        if conditioning[0][1].get(key) is not None:
            raise ValueError(f"A prompt's conditioning has '{key}': training needs plain text prompts without it.")
    conds = comfy.samplers.encode_model_conds(
        model.extra_conds,
        comfy.sampler_helpers.convert_cond(conditioning),
        noise,
        device,
        kind,
        latent_image=torch.zeros_like(noise),
        denoise_mask=None,
        seed=None,
        latent_shapes=[noise.shape],
    )
    inputs = {name: cond.process_cond(batch_size=1, area=None) for name, cond in conds[0]["model_conds"].items()}
    for cond in inputs.values():
        cond.cond = _to_device(cond.cond, device)
    return inputs


def _group(rows: Sequence[ModelInputs]) -> list[list[int]]:
    """Row indices by equal shape of all inputs, in order of first appearance."""
    groups: list[list[int]] = []
    for row, inputs in enumerate(rows):
        for group in groups:
            if _same_shape(rows[group[0]], inputs):
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


def _same_shape(a: ModelInputs, b: ModelInputs) -> bool:
    # ComfyUI itself would also join token sequences of different length, by repeating them; that changes the result
    # of most models, so only equal shapes share a batch here.
    if a is b:
        return True
    if a.keys() != b.keys():
        return False
    return all(type(a[k]) is type(b[k]) and a[k].size() == b[k].size() and a[k].can_concat(b[k]) for k in a)


def _batch(rows: Sequence[ModelInputs], device: torch.device) -> dict[str, Any]:
    first, *rest = rows
    return {name: _to_device(cond.concat([row[name] for row in rest]), device) for name, cond in first.items()}


def _to_device(value: Any, device: torch.device) -> Any:
    """Tensors on the device, without waiting for it; anything else as it is."""
    if isinstance(value, Tensor):
        return send(value, device)
    if isinstance(value, list):
        return [_to_device(item, device) for item in value]
    return value
