"""What a run that has finished must not keep to itself."""

from __future__ import annotations

from collections.abc import Iterable


def not_learned(history: Iterable[dict]) -> str:
    """A sentence or more about iterations without an update, and images that couldn't be scored; else "".

    history: the run's events of these kinds, as they stand in its log.
    """
    iterations: dict[int, dict] = {}
    held_out: dict = {}
    for event in history:
        if event["type"] == "iteration":
            iterations[event["iteration"]] = event  # a resumed run may have repeated some
        elif event["type"] == "evaluation":
            held_out = event["reward"]
    sentences = []
    rewards = [event["reward"] for event in iterations.values()]
    for name in dict.fromkeys(name for reward in rewards for name in reward):
        failed = sum(reward.get(name) is None for reward in rewards)
        if failed == len(iterations):
            sentences.append(f"The reward '{name}' could score no image of the run: nothing was learned from it.")
        elif failed:
            sentences.append(
                f"The reward '{name}' could score no image in {failed} of {len(iterations)} iterations: nothing was "
                "learned from it there."
            )
    # Events of older versions don't tell. Where every reward has failed, that is said above.
    idle = sum(
        event.get("updates") == 0 and any(value is not None for value in event["reward"].values())
        for event in iterations.values()
    )
    if idle:
        sentences.append(
            f"In {'all' if idle == len(iterations) else f'{idle} of'} {len(iterations)} iterations no update was made, "
            "because the images of each group scored alike or gradients weren't finite: nothing was learned there."
        )
    sentences += [
        f"The last held-out images have no score by '{name}'." for name, value in held_out.items() if value is None
    ]
    return " ".join(sentences)
