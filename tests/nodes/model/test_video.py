"""Videos for scorers of images, and the group of videos that an iteration compares."""

import json

import pytest
import torch

from tests.nodes import tiny_models


def test_a_videos_score_is_the_mean_over_its_frames(room):
    class Brightness:
        name, failures = "bright", ["why"]

        def score(self, images, prompts):
            assert len(images) == len(prompts) == 6 and prompts == ["a"] * 3 + ["b"] * 3
            return images[:, 0, 0, 0]

    strips = torch.zeros(2, 3 * 4, 5, 3)
    strips[0, 4:8], strips[1, 8:] = 0.6, 0.9
    rewards = room("nodes.model.video").by_frames({"bright": Brightness()}, 3)
    assert torch.allclose(rewards["bright"].score(strips, ["a", "b"]), torch.tensor([0.2, 0.3]))
    assert rewards["bright"].name == "bright" and rewards["bright"].failures == ["why"]
    assert not hasattr(rewards["bright"], "strict")


def test_frames_of_a_video_share_its_references(room):
    class Columns:
        name, uses_references = "columns", True

        def score(self, images, prompts, references):
            assert prompts == ["red"] * 3 + ["blue"] * 3
            return torch.tensor([float(each.columns["score"]) for each in references])

    references = room("mixgrpo_engine.rewards.references").References
    rewards = room("nodes.rewards.plain_prompts").by_plain_prompts({"columns": Columns()})
    rewards = room("nodes.model.video").by_frames(rewards, 3)
    given = [references(columns={"score": score}) for score in ("1", "2")]
    scored = room("mixgrpo_engine.rewards.scoring").score_by_each(
        rewards, torch.zeros(2, 12, 5, 3), ["(red:1.3)", "blue"], references=given
    )
    assert scored.values["columns"].tolist() == [1, 2]


def test_a_slow_scorer_of_frames_can_be_stopped_and_a_wrong_one_is_named(room):
    rewards = room("mixgrpo_engine.rewards")

    class Judge:
        name = "judge"

        def score(self, images, prompts):
            rewards.go_on()
            return images.sum()

    judge = room("nodes.model.video").reward_of_videos(Judge(), 3)
    with pytest.raises(ValueError, match=r"The reward 'judge' gave \[\] scores for 6 images"):
        judge.score(torch.zeros(2, 12, 5, 3), ["a", "b"])
    with pytest.raises(InterruptedError), rewards.asking(lambda: (_ for _ in ()).throw(InterruptedError)):
        judge.score(torch.zeros(2, 12, 5, 3), ["a", "b"])


def test_a_group_of_videos_is_compared_by_their_means(room, encoded):
    class Red:
        name = "red"

        def score(self, images, prompts):
            assert images.shape == (3 * 5, 64, 48, 3)
            return images[..., 0].mean((1, 2))

    config = room("mixgrpo_engine.config")
    algorithm = config.TrainConfig(config.RolloutConfig(steps=3, group_size=3), config.WindowConfig(size=1))
    sample = room("nodes.sampling.group_sample").MixGRPOGroupSample.execute
    model, vae, prompt = tiny_models.wan21(), tiny_models.wan_vae(), encoded["red"]
    with torch.inference_mode():
        grid, images, scores = sample(
            model, vae, Red(), algorithm, "red", 0, 1, 48, 64, positive=prompt, frames=5
        ).result
    videos = images.view(3, 5, 64, 48, 3)
    rewards = torch.tensor([entry["rewards"]["red"] for entry in json.loads(scores)["images"]])
    assert torch.allclose(rewards, videos[..., 0].mean((1, 2, 3))) and rewards.std() > 0
    assert (videos[:, 0] - videos[:, -1]).abs().max() > 0.01, "nothing moves"
    # A grid's cell is 384 pixels wide, for three frames of 48: enlarged by 8/3.
    assert grid.shape[2] == 2 * (384 + 6) + 6
    with pytest.raises(ValueError, match="frames is 6: this VAE makes 5 or 9"):
        sample(model, vae, Red(), algorithm, "red", 0, 1, 48, 64, positive=prompt, frames=6)
