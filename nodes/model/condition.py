"""Encoded prompts and items as a model's inputs: prepared by the model class, batched by equal shapes."""

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

    def __init__(
        self, rows: Sequence[ModelInputs], negatives: Sequence[ModelInputs] | None, device: torch.device
    ) -> None:
        """negatives: one a row, None without guidance."""
        self.rows = list(rows)
        self.negatives = None if negatives is None else list(negatives)
        self.device = device
        self._plan: tuple[list[Call], Tensor | None] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def guided(self) -> bool:
        return self.negatives is not None

    def select(self, rows: Sequence[int]) -> PromptCondition:
        negatives = None if self.negatives is None else [self.negatives[row] for row in rows]
        return PromptCondition([self.rows[row] for row in rows], negatives, self.device)

    def plan(self) -> tuple[list[Call], Tensor | None]:
        """The model calls for this batch, and the order that brings their joined outputs back into row order.

        With guidance the batch is twice as long: first all prompts, then their negatives. The order is
        None when there is one call. Made at the first use and kept: a rollout asks for it at every step.
        """
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    def _make_plan(self) -> tuple[list[Call], Tensor | None]:
        size, negatives = len(self.rows), self.negatives or []
        groups, of_negatives = _group(self.rows), _group(negatives)
        if (
            len(groups) == 1
            and len(of_negatives) <= 1
            and all(_same_shape(self.rows[0], each) for each in negatives[:1])
        ):
            return [Call(None, _batch(self.rows + negatives, self.device), [0, 1] if negatives else [0])], None
        # A call holds prompts or negatives, never both in unequal parts: patches go by cond_or_uncond.
        parts = [(group, [self.rows[row] for row in group], 0) for group in groups]
        parts += [([size + row for row in group], [negatives[row] for row in group], 1) for group in of_negatives]
        calls = [
            Call(_to_device(torch.tensor(rows), self.device), _batch(inputs, self.device), [kind])
            for rows, inputs, kind in parts
        ]
        order = torch.tensor([row for rows, _, _ in parts for row in rows]).argsort()
        return calls, _to_device(order, self.device)


def model_inputs(
    model: BaseModel,
    conditioning: Conditioning,
    noise: Tensor,
    device: torch.device,
    kind: str,
    latent: Tensor | None = None,
) -> ModelInputs:
    """A prompt's conditioning through the model class's own extra_conds, as ComfyUI's samplers do it.

    noise: (1, ...), the latents' shape. kind: "positive" or "negative". latent: what a sampler would begin from, as the
    VAE has it; None where it is empty. Raises ValueError for conditionings that
    change during sampling or cover a part of the image.
    """
    import comfy.sampler_helpers
    import comfy.samplers

    check_plain(conditioning)
    conds = comfy.samplers.encode_model_conds(
        model.extra_conds,
        comfy.sampler_helpers.convert_cond(conditioning),
        noise,
        device,
        kind,
        latent_image=torch.zeros_like(noise) if latent is None else model.process_latent_in(latent.to(noise)),
        denoise_mask=None,
        seed=0,  # of noise that some models add to a picture
        latent_shapes=[noise.shape],
    )
    inputs = {name: cond.process_cond(batch_size=1, area=None) for name, cond in conds[0]["model_conds"].items()}
    for cond in inputs.values():
        cond.cond = _to_device(cond.cond, device)
    return inputs


def check_plain(conditioning: Conditioning) -> None:
    """Raises ValueError for several conditionings, or one that changes during sampling or covers part of the image."""
    if len(conditioning) != 1:
        raise ValueError(
            f"A prompt has {len(conditioning)} conditionings, and training takes one: use a CLIP without scheduled "
            "hooks, and no node that combines conditionings."
        )
    for key in _UNSUPPORTED:
        if conditioning[0][1].get(key) is not None:
            raise ValueError(
                f"A prompt's conditioning has '{key}', which can't be trained: leave out the node it is of."
            )


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
