"""MixGRPO_RewardMix: sockets to a mix, and what the nodes that take a reward make of it."""

import json

import pytest
import torch

from tests.nodes.scoring.test_score import Failing, Red, greys


@pytest.fixture
def mixed(room):
    def run(*pairs, normalisation="none", **others):
        weights = {f"weight_{number}": 1.0 for number in range(1, 7)}
        inputs = {f"reward_{number}": reward for number, (reward, _) in enumerate(pairs, 1)}
        weights |= {f"weight_{number}": weight for number, (_, weight) in enumerate(pairs, 1)}
        node = room("nodes.scoring.reward_mix").MixGRPORewardMix
        return node.execute(normalisation=normalisation, **{**weights, **inputs, **others}).result[0]

    return run


def test_sockets_and_weights_belong_together(mixed):
    red, failing = Red(), Failing()
    made = mixed((red, 3.0), reward_5=failing, weight_5=0.5)
    assert made.rewards == {"red": red, "failing": failing} and made.weights == {"red": 3.0, "failing": 0.5}
    assert mixed((red, 1.0), normalisation="batch").normalisation == "batch"


def test_a_mix_in_a_mix(mixed):
    inner = mixed((Red(), 1.0), (Red(), 3.0))
    assert mixed((inner, 1.0), (Failing(), 1.0)).weights == {"red": 0.25, "red 2": 0.75, "failing": 1.0}


def test_nothing_connected_is_one_sentence(mixed):
    with pytest.raises(ValueError, match="connect at least reward_1"):
        mixed()
    with pytest.raises(ValueError, match="one must be above it"):
        mixed((Red(), 0.0))
    with pytest.raises(ValueError, match="A str is no reward"):
        mixed(("text", 1.0))


def test_group_sample_gives_each_scorer_advantages_of_its_own(room, mixed):
    class Counting:
        name = "counting"

        def score(self, images, prompts):
            return torch.arange(len(images)) * 1000.0

    config = room("mixgrpo_engine.config")
    model, clip, vae = room("nodes.tiny.tiny_model").MixGRPOTinyModel.execute().result
    settings = config.TrainConfig(config.RolloutConfig(steps=4, group_size=4), config.WindowConfig(size=2))
    shapes = room("mixgrpo_engine.rewards.shapes").ShapesReward()
    prompt = "a red circle on a white background"
    with torch.inference_mode():
        grid, images, text = (
            room("nodes.sampling.group_sample")
            .MixGRPOGroupSample.execute(
                model, vae, mixed((shapes, 3.0), (Counting(), 1.0)), settings, prompt, 0, 1, 64, 64, clip=clip
            )
            .result
        )
    report = json.loads(text)
    rewards = {"shapes": shapes.score(images, [prompt] * 4), "counting": torch.arange(4) * 1000.0}
    assert [entry["rewards"] for entry in report["images"]] == [
        {name: float(values[row]) for name, values in rewards.items()} for row in range(4)
    ]
    expected = room("mixgrpo_engine.advantage").group_advantages(rewards, 4, {"shapes": 3.0, "counting": 1.0})
    assert [entry["advantage"] for entry in report["images"]] == pytest.approx(expected.tolist(), abs=1e-6)


def test_score_ranks_by_the_mix(room, mixed):
    class Blue(Red):
        name = "blue"

        def score(self, images, prompts):
            return 1 - images[..., 2].mean((1, 2))

    images = greys(0.25, 0.5, 0.75)
    node = room("nodes.scoring.score").MixGRPOScore
    scores, _, _, _, _ = node.execute([images], [mixed((Red(), 1.0), (Blue(), 3.0))], [""], [False]).result
    assert scores == pytest.approx([0.625, 0.5, 0.375])
