"""ImageReward: against its equations in plain torch, its tokens and its preprocessing."""

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mixgrpo_engine.rewards.image_reward import ImageRewardReward
from mixgrpo_engine.rewards.networks.blip_layout import build
from mixgrpo_engine.rewards.networks.image_input import MEAN, STD
from mixgrpo_engine.rewards.networks.model_reward import ModelOptions
from tests.engine.rewards import tiny_image_reward as tiny

# Tokens of WORDS: [CLS] is 2, [SEP] 3, [UNK] 1, [DEC] and [ENC] come after all words.
PROMPTS = {
    "a red circle": [2, 5, 6, 8, 3],
    "A RED circle": [2, 5, 6, 8, 3],
    "reds, a blueish zebra": [2, 6, 13, 15, 5, 7, 14, 1, 3],
    "": [2, 3],
    "[DEC] red [ENC]": [2, len(tiny.WORDS), 6, len(tiny.WORDS) + 1, 3],
    "the sky " * 50: [2, *([11, 17] * 17)[:33], 3],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image reward")
    torch.save(tiny.tensors(), folder / "ImageReward.pt")
    return folder / "ImageReward.pt", tiny.write_vocab(folder)


@pytest.fixture(scope="module")
def reward(files):
    return ImageRewardReward(*files)


def pictures(*shape, seed=5):
    """In 256 levels from 0 to 1."""
    return (torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed)) * 255).round() / 255


@pytest.mark.parametrize("prompt, tokens", PROMPTS.items(), ids=["plain", "case", "pieces", "empty", "special", "long"])
def test_score_is_the_equations(reward, prompt, tokens):
    images = pictures(2, tiny.SIZE, tiny.SIZE)  # already of the network's size: no resizing
    pixels = ((images - torch.tensor(MEAN)) / torch.tensor(STD)).movedim(-1, 1)
    expected = [tiny.reference(tiny.tensors(), image, tokens) for image in pixels]
    scores = reward.score(images, [prompt] * 2)
    assert scores.dtype == torch.float32
    assert scores.tolist() == pytest.approx(expected, abs=1e-4)
    assert abs(expected[0] - expected[1]) > 1e-2  # the images do matter


def test_prompts_and_images_matter(reward):
    image = pictures(1, 40, 40)
    scores = reward.score(image.expand(3, -1, -1, -1), ["a red circle", "a blue square", "cat"])
    assert len({round(score, 3) for score in scores.tolist()}) == 3


@pytest.mark.parametrize("height, width", [(32, 32), (57, 91), (100, 33), (31, 64), (16, 16)])
def test_batch_is_its_singles(files, reward, height, width):
    images, prompts = pictures(5, height, width), list(PROMPTS)[:5]
    singles = [reward.score(image[None], [prompt]).item() for image, prompt in zip(images, prompts, strict=True)]
    small = ImageRewardReward(*files, ModelOptions(batch_size=2))
    assert reward.score(images, prompts).tolist() == pytest.approx(singles, abs=1e-4)
    assert small.score(images, prompts).tolist() == pytest.approx(singles, abs=1e-4)


@pytest.mark.parametrize("height, width", [(300, 301), (61, 45), (20, 33)])
def test_images_are_seen_as_pil_makes_them(reward, height, width):
    """ImageReward's own transform, one picture at a time; black and white side by side, where bicubic overshoots."""
    from torchvision import transforms

    images = (pictures(2, height, width) > 0.5).float()
    whole = transforms.Compose(
        [
            transforms.Resize(tiny.SIZE, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(tiny.SIZE),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    seen = [whole(Image.fromarray((image * 255).byte().numpy())) for image in images]
    expected = [tiny.reference(tiny.tensors(), pixels, PROMPTS["a red circle"]) for pixels in seen]
    # What one level in fewer than 1 pixel of 1000 does to the score.
    assert reward.score(images, ["a red circle"] * 2).tolist() == pytest.approx(expected, abs=1e-3)


def test_half_precision_stays_near(files, reward):
    images, prompts = pictures(2, 32, 32), ["a red circle", "cat"]
    half = ImageRewardReward(*files, ModelOptions(dtype="bfloat16")).score(images, prompts)
    assert half.dtype == torch.float32
    assert half.tolist() == pytest.approx(reward.score(images, prompts).tolist(), abs=0.3)


def test_the_network_is_the_files_tensors_and_nothing_else():
    """No random weights are made first, which takes seconds at the published size."""
    tensors = tiny.tensors()
    network = build(tensors)
    assert {t.device.type for t in (*network.parameters(), *network.buffers())} == {"cpu"}
    given = {tensor.data_ptr() for tensor in tensors.values()}
    assert {parameter.data_ptr() for parameter in network.parameters()} <= given


def test_vocab_may_be_a_folder(files, reward):
    weights, vocab = files
    images = pictures(1, 32, 32)
    assert torch.equal(ImageRewardReward(weights, vocab.parent).score(images, ["cat"]), reward.score(images, ["cat"]))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("blip.visual_encoder.blocks.1.attn.qkv.bias"), "without vision.encoder.layers.1.self_attn"),
        (lambda t: t.pop("blip.text_encoder.encoder.layer.0.crossattention.self.key.weight"), "without encoder.layer"),
        (lambda t: t.pop("mlp.layers.7.weight"), "head.7"),
        (lambda t: t.update({"mlp.layers.9.weight": torch.zeros(1, 1), "mlp.layers.9.bias": torch.zeros(2)}), "head.9"),
        (lambda t: t.update({"blip.text_encoder.more": torch.zeros(1)}), "strange text.more"),
        (lambda t: [t.pop(name) for name in list(t) if name.startswith("mlp.")], "layers are missing"),
        (lambda t: [t.pop(name) for name in list(t) if name != "mlp.layers.0.weight"], "patch_embedding"),
    ],
)
def test_other_weights_are_refused_in_one_sentence(tmp_path, files, change, message):
    tensors = tiny.tensors()
    change(tensors)
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=message) as caught:
        ImageRewardReward(tmp_path / "other.safetensors", files[1]).score(pictures(1, 32, 32), ["cat"])
    assert str(caught.value).startswith("other.safetensors can't be used as ImageReward: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "There is no file"),
        ("just\nwords\n", "isn't BERT's list of words"),
        ("\n".join([*tiny.WORDS, "more"]), "gives 21 tokens, but ImageReward.pt knows 20"),
    ],
)
def test_wrong_vocab_is_refused(tmp_path, files, content, message):
    if content:
        (tmp_path / "vocab.txt").write_text(content, encoding="utf-8")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ImageRewardReward(files[0], tmp_path).score(pictures(1, 32, 32), ["cat"])
