"""What settings ask of each other, beside the bounds that each has of its own (config/)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import TrainConfig


def conflicts(c: TrainConfig) -> Iterator[tuple[bool, str]]:
    """(whether it is so, what is wrong and what to do) of each way in which settings can contradict each other."""
    r, size, updates = c.rollout, c.window.size, c.optimizer.updates
    yield r.transition == "cps" and r.eta >= 2, f"eta is {r.eta}: with cps it must be below 2."
    wanted = f"it must be 1 to {r.steps - 1} (the last step is not trained), or 0 for all of them."
    yield size >= r.steps, f"window_size is {size} with {r.steps} steps: {wanted}"
    nft, loss = c.loss.surrogate == "nft", c.loss
    wanted = "with the surrogate nft no step is random, and they would all be the same: switch it off."
    yield nft and r.shared_noise, f"shared_noise lets a group's images start alike: {wanted}"
    wanted = "with the surrogate nft, which has no random steps, it must be velocity."
    yield nft and loss.kl_weight > 0 and loss.kl_space != "velocity", f"kl_space is {loss.kl_space}: {wanted}"
    wanted = "with the surrogate nft, which has no random steps, it must be uniform."
    yield nft and loss.step_weights != "uniform", f"step_weights is {loss.step_weights}: {wanted}"
    images = r.group_size * r.prompts_per_iteration
    yield updates > images, f"updates is {updates} with {images} images an iteration: it must be 1 to {images}."
    wanted = f"with balanced minibatches it must be {r.group_size} at most."
    wrong = c.optimizer.balanced and updates > r.group_size
    yield wrong, f"updates is {updates} with {r.group_size} images a prompt: {wanted}"
    wanted = "it must be 0 where all weights are trained, since no base model is kept."
    yield c.adapter.kind == "full" and c.loss.kl_weight > 0, f"kl_weight is {c.loss.kl_weight}: {wanted}"
    a = c.adapter
    wanted = "start_from takes all its layers from its file, so leave them empty."
    yield bool(a.start_from and (a.targets or a.exclude)), f"targets or exclude is set: {wanted}"
    wanted = "it goes on from a LoRA, so leave it empty where all weights are trained."
    yield bool(a.start_from and a.kind == "full"), f"start_from is set: {wanted}"
    prompts, processes = r.prompts_per_iteration, c.run.processes
    wanted = f"each needs a prompt of its own, so set it to {processes} or a multiple of it."
    yield prompts < processes, f"prompts_per_iteration is {prompts} with {processes} processes: {wanted}"
