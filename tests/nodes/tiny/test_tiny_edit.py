"""The embedded edit model, sampled by stock nodes: it draws what is asked for, with the rest as in the picture."""

import pytest
import torch

from mixgrpo_engine import shape_edits, shapes
from mixgrpo_engine.rewards.shapes import ShapesReward
from tests.nodes.model import stock

COUNT = 24


@pytest.fixture(scope="module")
def parts(comfy, room):
    return room("nodes.tiny.tiny_edit_model").MixGRPOTinyEditModel.execute().result


@pytest.fixture(scope="module")
def examples(room):
    images, prompts = room("nodes.tiny.tiny_edits").MixGRPOTinyEdits.execute(COUNT, 1234).result
    return torch.cat(images), prompts


def encoded(parts, pictures, prompts):
    """What CLIP Text Encode, VAE Encode and ReferenceLatent make of each."""
    _, clip, vae = parts
    latents = vae.encode(pictures)
    return [
        [[tokens, {**extras, "reference_latents": [latents[row : row + 1]]}]]
        for row, prompt in enumerate(prompts)
        for tokens, extras in clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
    ]


def drawn(parts, conditionings):
    model, _, vae = parts
    noise = [
        torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(row)) for row in range(len(conditionings))
    ]
    latents = [
        stock.sample(model, each, conditioning, conditioning, steps=10)[0]
        for each, conditioning in zip(noise, conditionings, strict=True)
    ]
    return vae.decode(model.model.process_latent_out(torch.cat(latents)))


def test_it_draws_what_is_asked_for_and_keeps_the_rest(parts, examples):
    pictures, prompts = examples
    images = drawn(parts, encoded(parts, pictures, prompts))
    assert ShapesReward().score(images, prompts).mean() > 0.75
    # Where the background is to stay, most of the picture does, and no other picture is nearer.
    grounds = torch.tensor([shapes.BACKGROUNDS[shapes.parse(prompt).background] for prompt in prompts]) / 255
    stays = (pictures[:, 0, 0] - grounds).abs().amax(1) < 0.1
    apart = (images[:, None] - pictures[None]).abs().mean((2, 3, 4))[stays]
    assert len(apart) > COUNT / 2 and apart[:, stays].diagonal().median() < 0.06
    assert (apart.argmin(1) == stays.nonzero()[:, 0]).float().mean() > 0.8


def test_the_picture_reaches_the_policy_as_it_reaches_stock_sampling(parts, examples, room):
    pictures, prompts = examples[0][:2], ["a red circle"] * 2
    made = encoded(parts, pictures, prompts)
    conditioning = room("nodes.model.conditioning")
    items = conditioning.Encoded(
        {str(row): conditioning.item_inputs(each, None, None) for row, each in enumerate(made)}
    )
    adapter = room("mixgrpo_engine.config").AdapterConfig(rank=2)
    policy = room("nodes.model.policy").ComfyPolicy(
        parts[0], parts[2], items, width=64, height=64, adapter=adapter, seed=0
    )
    x = policy.noise([3, 3])
    with torch.no_grad():
        own = policy.module(x, 0.6, policy.condition(["0", "1"]))
    for row in range(2):
        expected = stock.one_velocity(parts[0], x[row : row + 1], 0.6, made[row], made[row])
        assert (own[row] - expected[0]).abs().max() < 1e-4 * expected.abs().max()
    assert (own[0] - own[1]).abs().max() > 1e-2


def test_examples_are_pictures_and_captions_of_the_engine(room):
    images, prompts = room("nodes.tiny.tiny_edits").MixGRPOTinyEdits.execute(3, 5).result
    assert prompts == [caption for _, caption in shape_edits.examples(3, 5)]
    assert {tuple(image.shape) for image in images} == {(1, 64, 64, 3)} and 0 <= images[0].min() < images[0].max() <= 1
