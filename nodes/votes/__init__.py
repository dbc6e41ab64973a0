"""One person's taste: sets of votes in the output folder, nodes that ask and learn from them, routes to vote through.

sets.py finds the folders; vote.py, you.py and taste.py are the nodes; routes.py answers the panel and scripts;
pictures.py adds images that are already there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ...mixgrpo_engine.rewards.taste import TasteReward


def prompts_of(graph: dict[str, Any]) -> list[str]:
    """What a training must encode beside its own prompts, so that its model can look at the images voted on."""
    from . import sets

    found = [
        sheet.prompt
        for state in (votes.read() for votes in sets.of_graph(graph))
        for sheet in state.sheets.values()
        if sheet.id in state.answers
    ]
    return list(dict.fromkeys(["", *found])) if sets.is_used(graph) else []


def taste_in(reward: Any) -> TasteReward | None:
    """The learned taste that a reward is, or asks when nobody answers."""
    from ...mixgrpo_engine.rewards.taste import LiveReward, TasteReward

    taste = reward.instead if isinstance(reward, LiveReward) else reward
    return taste if isinstance(taste, TasteReward) else None


def tell_of_others(rewards: Mapping[str, Any], weights: Mapping[str, float], processes: int = 1) -> None:
    """Lets a reward that waits for people know whether others teach, or other processes wait with it."""
    for name, reward in rewards.items():
        if hasattr(reward, "insists"):
            others = any(weight > 0 for other, weight in weights.items() if other != name)
            reward.insists = processes == 1 and not others


def let_see(reward: Any, policy: Any, prompts: Iterable[str], images: int = 0) -> None:
    """Gives a taste the eyes of the model that is trained: how well its base finds that an image fits its prompt.

    prompts: the training's, as they are encoded; rewards get them without ComfyUI's weights. images: of the rollout's
    model calls, which fit into memory; 0 for all at once.
    """
    from ...mixgrpo_engine.taste.features import PromptFit
    from ..model.policy import BASE_IMAGES
    from ..rewards.plain_prompts import without_weights

    taste = taste_in(reward)
    if taste is None or any(isinstance(each, PromptFit) for each in taste.sources):
        return  # the last: one that is trained on and watched, too
    as_encoded = {without_weights(prompt): prompt for prompt in prompts}

    at_once = min(BASE_IMAGES, images or BASE_IMAGES)

    def velocity(latents: Tensor, sigma: float, texts: Sequence[str]) -> Tensor:
        return policy.base_velocity(latents, sigma, [as_encoded.get(text, text) for text in texts], at_once)

    def knows(text: str) -> bool:
        return as_encoded.get(text, text) in policy.encoded

    taste.sources.append(PromptFit(velocity, policy.encode, policy.fingerprint(), knows=knows))
    reward.uses_policy = True
