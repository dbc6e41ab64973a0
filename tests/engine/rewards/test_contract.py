"""What every scorer keeps: one score an image, NaN with a reason, and a sentence for input that can't be scored."""

from pathlib import Path

import pytest
import torch

from mixgrpo_engine.rewards import check_batch
from mixgrpo_engine.rewards.aesthetic import AestheticReward
from mixgrpo_engine.rewards.clip_score import ClipScoreReward
from mixgrpo_engine.rewards.clip_similarity import ClipSimilarityReward
from mixgrpo_engine.rewards.hps import HPSReward
from mixgrpo_engine.rewards.image_reward import ImageRewardReward
from mixgrpo_engine.rewards.jpeg import JpegReward
from mixgrpo_engine.rewards.judge.pairwise import PairwiseJudgeReward, PairwiseOptions
from mixgrpo_engine.rewards.judge.reward import JudgeOptions, JudgeReward
from mixgrpo_engine.rewards.ocr import OcrReward
from mixgrpo_engine.rewards.outside_mask import OutsideMaskReward
from mixgrpo_engine.rewards.pick_score import PickScoreReward
from mixgrpo_engine.rewards.remote.http_reward import HTTPOptions, HTTPReward
from mixgrpo_engine.rewards.shapes import ShapesReward
from mixgrpo_engine.standalone.reward_table import REWARDS

# None of these reads a file or asks a server before it has looked at its input.
SCORERS = {
    "hps": lambda: HPSReward("none", "none"),
    "pick_score": lambda: PickScoreReward("none", "none"),
    "image_reward": lambda: ImageRewardReward("none", "none"),
    "clip_score": lambda: ClipScoreReward("none", "none"),
    "aesthetic": lambda: AestheticReward("none", "none"),
    "judge": lambda: JudgeReward(JudgeOptions(("http://127.0.0.1:9",), "none")),
    "pairwise_judge": lambda: PairwiseJudgeReward(PairwiseOptions(("http://127.0.0.1:9",), "none")),
    "http": lambda: HTTPReward(HTTPOptions(("http://127.0.0.1:9",))),
    "ocr": OcrReward,
    "compressibility": JpegReward,
    "shapes": ShapesReward,
    "clip_similarity": lambda: ClipSimilarityReward("none"),
    "outside_mask": OutsideMaskReward,
}
WRONG = {
    "channels first": (torch.zeros(2, 3, 8, 8), ["", ""], r"must be \(batch, height, width, 3\), not \(2, 3, 8, 8\)"),
    "no batch": (torch.zeros(8, 8, 3), ["", ""], r"must be \(batch, height, width, 3\), not \(8, 8, 3\)"),
    "no pixels": (torch.zeros(2, 0, 8, 3), ["", ""], r"must be \(batch, height, width, 3\), not \(2, 0, 8, 3\)"),
    "8 bit": (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), ["", ""], "float in 0..1, not torch.uint8: divide"),
    "prompts": (torch.zeros(2, 8, 8, 3), ["a"], "2 images, but 1 prompts"),
    "one text": (torch.zeros(2, 8, 8, 3), "ab", "not a single text"),
}


@pytest.mark.parametrize("name", SCORERS)
def test_wrong_input_is_refused_in_a_sentence(name):
    reward = SCORERS[name]()
    assert reward.name == name and reward.failures == []
    for images, prompts, message in WRONG.values():
        with pytest.raises(ValueError, match=message):
            reward.score(images, prompts)


@pytest.mark.parametrize("name", SCORERS)
def test_no_images_have_no_scores(name):
    scores = SCORERS[name]().score(torch.zeros(0, 8, 8, 3), [])
    assert scores.shape == (0,) and scores.dtype == torch.float32 and scores.device.type == "cpu"


def test_half_precision_is_a_float_too():
    check_batch(torch.zeros(1, 8, 8, 3, dtype=torch.bfloat16), ["a"])


def test_every_scorer_has_a_name_in_run_files_and_in_their_page():
    named = {kind for _, kind in REWARDS.values()}
    assert named == {type(make()).__name__ for make in SCORERS.values()}
    page = (Path(__file__).resolve().parents[3] / "docs" / "without_comfyui.md").read_text(encoding="utf-8")
    assert [name for name in REWARDS if f"`{name}`" not in page] == []
