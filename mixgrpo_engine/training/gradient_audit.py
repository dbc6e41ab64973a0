"""Whether what is trained gets gradients at all: a run that learns nothing must not end as finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..distributed.ranks import Ranks
from ..policy import Policy
from .pulse import Pulse

NAMED = 4  # layers named in a message
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

        It looks once. B begins as 0, and A's gradient is 0 as long as B is: it is B's that tells. A layer whose output
        nothing uses (in the last block of some models) gets none and needs none: velocity() is the same whatever its
        LoRA does; None where this process has no image. Raises RuntimeError that names the other layers without one.
        """
        if self._passed:
            return
        self._passed = True
        suffix = ".lora_B.weight"
        trained = {name.removesuffix(suffix): b for name, b in self.policy.adapter_state().items() if suffix in name}
        silent = {name: b for name, b in trained.items() if b.grad is None or not bool(b.grad.any())}
        # All processes have the same gradients, and so come to the same.
        without = _used(silent, velocity) if silent and velocity else []
        if self.ranks.any(bool(without)):
            named = without or list(silent)
            more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
            raise RuntimeError(
                f"No gradient reaches {len(named)} of {len(trained)} layers with a LoRA "
                f"({', '.join(named[:NAMED])}{more}): they would never be trained. {CAUSES}"
            )

    def check_norm(self, norm: Tensor) -> None:
        """norm: the gradient's, of an iteration's first update, where no image has left it yet.

        A norm of 0 is told; raises RuntimeError when the next iteration's is 0, too.
        """
        self.pulse.tolerate(
            "gradient of 0",
            not bool(norm),
            f"An update's gradient is exactly 0 though its images have advantages, so nothing was learned. {CAUSES}",
            ZEROS_IN_A_ROW,
        )


@torch.no_grad()
def _used(layers: dict[str, Tensor], velocity: Callable[[], Tensor]) -> list[str]:
    """Those of the layers (name -> its B) that change the velocity."""

    def changes(some: Sequence[Tensor]) -> bool:
        kept = [b.clone() for b in some]
        for b in some:
            b.copy_(torch.randn(b.shape, generator=torch.Generator().manual_seed(0)))
        after = velocity()
        for b, before in zip(some, kept, strict=True):
            b.copy_(before)
        return bool((after - unchanged).abs().max() > 1e-4 * unchanged.abs().max())

    unchanged = velocity()
    if not changes(list(layers.values())):
        return []
    return [name for name, b in layers.items() if changes([b])]
