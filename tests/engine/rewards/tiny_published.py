"""Every file of the catalog by its published name, with tiny random weights in it."""

from __future__ import annotations

from pathlib import Path

import torch

from mixgrpo_engine.rewards.files import catalog
from tests.engine.rewards import test_aesthetic, tiny_clips, tiny_image_reward


def write(folder: Path) -> None:
    """Into a models/reward_models, so that what names the published files runs."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_clips.saved(tiny_clips.open_clip_clip(), folder / catalog.HPS.name)
    tiny_clips.saved(tiny_clips.transformers_clip("gelu"), folder / catalog.PICK_SCORE.name)
    tiny_clips.saved(tiny_clips.transformers_clip("quick_gelu"), folder / catalog.CLIP_L.name)
    torch.save(test_aesthetic.head().state_dict(), folder / catalog.AESTHETIC.name)
    torch.save(tiny_image_reward.tensors(), folder / catalog.IMAGE_REWARD.name)
    tiny_image_reward.write_vocab(folder).rename(folder / catalog.BERT_VOCAB.name)
