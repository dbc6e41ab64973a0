"""Whether what is trained gets gradients at all: a run that learns nothing must not end as finished."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..distributed.ranks import Ranks
from ..policy import Policy
from .pulse import Pulse

NAMED = 4  # layers named in a message
TRIAL = 0.1  # size of the values that show whether a layer acts
ZEROS_IN_A_ROW = 2  # of iterations, before the run gives up

CAUSES = (
    "Usual causes in front of the training: an attention or a kernel without a backward pass (SageAttention, "
    "Nunchaku's layers), a block whose code a patch has replaced, a compiled model. Connect the model from before that "
    "node, or leave these layers out (exclude of the LoRA's settings)."
)


class GradientAudit:
    """Looks at the first gradients of a run, and of each resume, and at gradients of 0 later on."""

    def __init__(self, policy: Policy, pulse: Pulse, ranks: Ranks) -> None:
        self.policy, self.pulse, self.ranks = policy, pulse, ranks
        self._passed = False

    def check_layers(self, velocity: Callable[[], Tensor] | None) -> None:
        """After a backward pass of images with an advantage: every layer with a LoRA has got a gradient.

        It looks once. B begins as 0, and A's gradient is 0 as long as B is: it is B's that tells. Some layers may do
        nothing: in the last block of some models the output of some is used nowhere, and an expert may get no token.
        Such a layer needs no gradient, and velocity() is the same whatever its LoRA does (None where this process has
        no image). They are told. Raises RuntimeError that names the other layers without one.
        """
        if self._passed:
            return
        self._passed = True
        suffix = ".lora_B.weight"
        trained = {name.removesuffix(suffix): b for name, b in self.policy.adapter_state().items() if suffix in name}
        reached = {name: b.grad.any() for name, b in trained.items() if b.grad is not None}
        there = dict(zip(reached, torch.stack(list(reached.values())).tolist(), strict=True)) if reached else {}
        silent = {name: b for name, b in trained.items() if not there.get(name)}
        if not silent:
            return
        # Elsewhere a layer without any effect is one that the model doesn't call: its own code runs another's.
        idle = {name: silent[name] for name in _may_do_nothing(list(trained)) & silent.keys()}
        without = [name for name in silent if name not in idle]
        if velocity:
            without += _used(idle, velocity)
        # All processes have the same gradients; one without an image doesn't see which layers act.
        if self.ranks.any(bool(without)):
            raise RuntimeError(
                f"No gradient reaches {len(without or silent)} of {len(trained)} layers with a LoRA "
                f"({_some(without or list(silent))}): they would never be trained. {CAUSES}"
            )
        self.pulse.notice(
            f"{len(silent)} of {len(trained)} layers with a LoRA do nothing for the first images, and so learn nothing "
            f"from them ({_some(list(silent))})."
        )

    def check_norm(self, norm: float) -> None:
        """norm: the gradient's, of an iteration's first update, where no image has left it yet.

        A norm of 0 is told; raises RuntimeError when the next iteration's is 0, too.
        """
        self.pulse.tolerate(
            "gradient of 0",
            norm == 0,
            f"An update's gradient is exactly 0 though its images have advantages, so nothing was learned. {CAUSES}",
            ZEROS_IN_A_ROW,
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _may_do_nothing(names: Sequence[str]) -> set[str]:
    """Experts, and those in the last block of their list of blocks: "blocks.7.attn" beside "blocks.0.attn"."""
    places = {name: (found[1], int(found[2])) for name in names if (found := re.match(r"(.*?)\.(\d+)\.", name))}
    last: dict[str, int] = {}
    for blocks, number in places.values():
        last[blocks] = max(number, last.get(blocks, 0))
    return {name for name, (blocks, number) in places.items() if number == last[blocks] or ".experts." in name}


@torch.no_grad()
def _used(layers: dict[str, Tensor], velocity: Callable[[], Tensor]) -> list[str]:
    """Those of the layers (name -> its B) that change the velocity."""

    def changes(some: Sequence[Tensor]) -> bool:
        kept = [b.clone() for b in some]
        for b in some:
            b.copy_(TRIAL * torch.randn(b.shape, generator=torch.Generator().manual_seed(0)))
        after = velocity()
        for b, before in zip(some, kept, strict=True):
            b.copy_(before)
        # Written so that what isn't a number counts as a change.
        return not bool((after - unchanged).abs().max() <= 1e-5 * unchanged.abs().max())

    if not layers:
        return []
    unchanged = velocity()
    if not changes(list(layers.values())):
        return []
    return [name for name, b in layers.items() if changes([b])]
