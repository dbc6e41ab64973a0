"""The aesthetic predictor against its definition: OpenAI's CLIP, embeddings of length 1, a head with dropout."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mixgrpo_engine.rewards.aesthetic import AestheticReward
from tests.engine.rewards import tiny_clips as tiny


def head(width=tiny.EMBEDDING):
    """The published head, of another width."""
    layers = [
        nn.Linear(width, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2), nn.Linear(128, 64),
        nn.Dropout(0.1), nn.Linear(64, 16), nn.Linear(16, 1),
    ]  # fmt: skip
    torch.manual_seed(3)
    return tiny.scattered(nn.ModuleDict({"layers": nn.Sequential(*layers)}))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aesthetic")
    torch.save(head().state_dict(), folder / "head.pth")
    save_file(head().state_dict(), folder / "head.safetensors")
    clip = tiny.transformers_clip("quick_gelu")
    tiny.saved(clip, folder / "clip.safetensors")
    vision = {name: tensor.clone() for name, tensor in clip.state_dict().items() if name.startswith("vis")}
    save_file(vision, folder / "vision.safetensors")
    return folder


@pytest.mark.parametrize("height, width", tiny.SIZES)
def test_by_its_definition(files, height, width):
    images = tiny.pictures(4, height, width)
    clip = tiny.transformers_clip("quick_gelu")
    found = clip.visual_projection(clip.vision_model(tiny.cropped_by_pillow(images)).pooler_output)
    expected = head()["layers"](found / found.norm(dim=-1, keepdim=True)).squeeze(-1)
    for head_file, clip_file in (("head.pth", "clip.safetensors"), ("head.safetensors", "vision.safetensors")):
        scores = AestheticReward(files / head_file, files / clip_file).score(images, [""] * 4)
        # Where no pixel is a level off (see test_image_input), nothing is.
        torch.testing.assert_close(scores, expected, atol=1e-5 if height in (32, 64) else 1e-3, rtol=0)
    assert expected.std() > 0.1


def test_by_open_clip(files, tmp_path):
    network = tiny.open_clip_clip(quick_gelu=True)
    torch.save(network.state_dict(), tmp_path / "ViT.pt")
    images = tiny.pictures(3, 64, 64)
    embeddings = network.encode_image(tiny.cropped_by_pillow(images), normalize=True)
    scores = AestheticReward(files / "head.pth", tmp_path / "ViT.pt").score(images, [""] * 3)
    torch.testing.assert_close(scores, head()["layers"](embeddings).squeeze(-1), atol=1e-4, rtol=1e-4)


def test_prompts_don_t_matter(files):
    images = tiny.pictures(2, 32, 32)
    reward = AestheticReward(files / "head.pth", files / "clip.safetensors")
    assert torch.equal(reward.score(images, ["a cat", ""]), reward.score(images, ["", "x" * 1000]))


def test_another_head_is_refused(files, tmp_path):
    clip, images = files / "clip.safetensors", torch.zeros(1, 8, 8, 3)
    torch.save(head(64).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(ValueError, match="wide.pth rates embeddings of 64 numbers, but clip.safetensors gives 48"):
        AestheticReward(tmp_path / "wide.pth", clip).score(images, [""])
    tensors = head().state_dict()
    torch.save({name.replace("7", "9"): tensor for name, tensor in tensors.items()}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth is the head of another aesthetic predictor, not the head of"):
        AestheticReward(tmp_path / "other.pth", clip).score(images, [""])
    for name, shape in (("layers.2.weight", (128, 5)), ("layers.0.weight", ()), ("layers.7.bias", (2,))):
        torch.save({**tensors, name: torch.zeros(shape)}, tmp_path / "broken.pth")
        with pytest.raises(ValueError, match="broken.pth: its layers don't fit each other"):
            AestheticReward(tmp_path / "broken.pth", clip).score(images, [""])
    last = {"layers.7.weight": torch.zeros(2, 16), "layers.7.bias": torch.zeros(2)}
    torch.save({**tensors, **last}, tmp_path / "two.pth")
    with pytest.raises(ValueError, match="two.pth gives 2 numbers an image"):
        AestheticReward(tmp_path / "two.pth", clip).score(images, [""])
