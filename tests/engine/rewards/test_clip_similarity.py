"""The similarity of an edited image and its source, against transformers' own CLIP fed by Pillow."""

import pytest
import torch
from torch.nn import functional as F

from mixgrpo_engine.rewards import checked_scores
from mixgrpo_engine.rewards.clip_similarity import ClipSimilarityReward
from mixgrpo_engine.rewards.networks.model_reward import ModelOptions
from mixgrpo_engine.rewards.references import References
from tests.engine.rewards.tiny_clips import cropped_by_pillow, pictures, saved, transformers_clip

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return saved(transformers_clip(), tmp_path_factory.mktemp("clip") / "clip.safetensors")


def embedded(images):
    seen = transformers_clip().vision_model(pixel_values=cropped_by_pillow(images)).pooler_output
    return F.normalize(transformers_clip().visual_projection(seen), dim=-1)


def of(source):
    return References({"image": source})


@pytest.mark.parametrize("batch_size", [0, 2])
def test_it_is_the_cosine_of_the_published_network(weights, batch_size):
    images = pictures(3, 37, 91)
    one, other = pictures(1, 64, 64, seed=1)[0], pictures(1, 50, 70, seed=2)[0]
    shared = of(one)
    reward = ClipSimilarityReward(weights, ModelOptions(batch_size=batch_size))
    scores = checked_scores(reward, images, ["a"] * 3, [shared, shared, of(other)])
    sources = torch.cat([embedded(each[None]) for each in (one, one, other)])
    assert scores.tolist() == pytest.approx((embedded(images) * sources).sum(-1).tolist(), abs=2e-3)
    assert scores.max() - scores.min() > 0.01


def test_an_image_that_was_not_edited_has_1(weights):
    image = pictures(1, 64, 48)
    scores = checked_scores(ClipSimilarityReward(weights), image, ["a"], [of(image[0])])
    assert scores.item() == pytest.approx(1, abs=1e-5)


def test_without_a_source_it_is_refused(weights):
    with pytest.raises(ValueError, match="'clip_similarity' compares with the picture 'image'"):
        checked_scores(ClipSimilarityReward(weights), pictures(1, 8, 8), ["a"])
