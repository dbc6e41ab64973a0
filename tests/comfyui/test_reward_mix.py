"""A mix of scorers as the reward of a real run, one of them a network whose file may be broken."""

import pytest
import torch

from tests.engine.rewards import tiny_image_reward


@pytest.fixture
def mixed(server, graphs):
    """`mixed(run name, content)`: a run's graph whose reward is shapes and a tiny ImageReward, of a file of its own."""

    def graph(name, content=None):
        folder = server.base / "models" / "reward_models" / name
        folder.mkdir(parents=True)
        torch.save(tiny_image_reward.tensors(), folder / "ImageReward.pt")
        tiny_image_reward.write_vocab(folder)
        if content is not None:
            (folder / "ImageReward.pt").write_bytes(content)
        graph = graphs.tiny(name)
        graph["likes"] = {
            "class_type": "MixGRPO_RewardImageReward",
            "inputs": {"weights": f"{name}/ImageReward.pt", "vocab": f"{name}/vocab.txt"},
        }
        graph["mix"] = {
            "class_type": "MixGRPO_RewardMix",
            "inputs": {"weight_2": 0.5, "reward_1": ["reward", 0], "reward_2": ["likes", 0]},
        }
        graph["train"]["inputs"]["reward"] = ["mix", 0]
        return graph

    return graph


def test_a_run_with_a_mix_tells_each_scorers_mean(server, mixed):
    run_id = server.run_id(server.outputs(mixed("mixed")))
    assert server.run(run_id)["state"] == "finished" and server.lora(run_id).exists()
    iterations = [event for event in server.events(run_id) if event["type"] == "iteration"]
    assert len(iterations) == 2
    assert all(event["reward"].keys() == {"shapes", "image_reward"} for event in iterations)
    assert all(isinstance(value, float) for event in iterations for value in event["reward"].values())


def test_a_broken_file_ends_the_run_with_a_sentence(server, mixed):
    message = server.error(mixed("broken", b"no weights"))["exception_message"]
    assert "ImageReward.pt can't be used as ImageReward: ImageReward.pt can't be read as weights" in message
    assert "download it again" in message
