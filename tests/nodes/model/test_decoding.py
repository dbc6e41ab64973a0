"""Decoding in tiles: when it is chosen, and that it shows the same picture."""

import pytest
import torch

from mixgrpo_engine.memory.micro_batches import is_out_of_memory
from tests.nodes import tiny_models

LATENTS = (2, 16, 12, 20)


@pytest.fixture
def decoding(room):
    return room("nodes.model.decoding")


@pytest.fixture
def samples():
    return torch.randn(LATENTS, generator=torch.Generator().manual_seed(0))


def test_tiles_are_taken_when_an_image_needs_more_than_is_free(decoding, vae, samples, monkeypatch):
    one = decoding.decode_bytes(vae, (1, *LATENTS[1:]))
    assert one * 2 == decoding.decode_bytes(vae, LATENTS) or one == decoding.decode_bytes(vae, LATENTS)
    for free, tiled in ((one, False), (one - 1, True)):
        monkeypatch.setattr(decoding, "free_bytes", lambda device, free=free: free)
        assert decoding.needs_tiles(vae, samples.shape) is tiled


def test_weights_that_have_to_be_moved_count(decoding, vae, samples, monkeypatch):
    one = decoding.decode_bytes(vae, (1, *LATENTS[1:]))
    monkeypatch.setattr(decoding, "free_bytes", lambda device: one)
    monkeypatch.setattr(decoding, "bytes_to_move", lambda module, device: 1)
    assert decoding.needs_tiles(vae, samples.shape)


def test_a_small_picture_in_one_tile_is_the_same(decoding, vae, samples):
    whole, tiled = (decoding.decode_images(vae, samples, tiled) for tiled in (False, True))
    assert whole.shape == (2, 96, 160, 3)
    # Rounding alone: a step of an 8-bit picture is 4e-3.
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(9, 16, 16, 16), (3, 16, 2, 24, 24)])
def test_a_batch_is_decoded_in_its_order(decoding, shape, room):
    """On a CPU it is in parts."""
    vae, asked = tiny_models.vae(), []
    decode = vae.decode
    vae.decode = lambda part: asked.append(len(part)) or (decode(part) if len(shape) == 4 else frames(part))
    samples = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    images = decoding.decode_images(vae, samples)
    assert asked == ([4, 4, 1] if len(shape) == 4 else [1, 1, 1])
    each = [decoding.decode_images(vae, sample[None]) for sample in samples]
    torch.testing.assert_close(images, torch.cat(each), atol=1e-4, rtol=0)  # as above


def frames(latents):
    """Videos (batch, frames, height, width, 3), as a VAE of videos gives them."""
    return latents[:, :3].movedim(1, -1).sigmoid()


def test_what_comfyui_takes_for_another_error_is_decoded_in_tiles_too(decoding, vae, samples, monkeypatch):
    """ComfyUI falls back to tiles for CUDA's error only."""
    tiled = decoding.decode_images(vae, samples, tiled=True)

    def fail(*_, **__):
        raise RuntimeError("MPS backend out of memory (MPS allocated: 5.56 GB)")

    with monkeypatch.context() as patch:
        patch.setattr(vae, "decode", fail)
        assert torch.equal(decoding.decode_images(vae, samples), tiled)
        patch.setattr(vae, "decode_tiled", fail)
        with pytest.raises(RuntimeError, match="^Out of memory in the VAE, even in tiles: train smaller") as found:
            decoding.decode_images(vae, samples)
    assert not is_out_of_memory(found.value), "who samples in smaller parts can't help the VAE"


def test_the_policy_asks_before_it_decodes(decoding, room, policy_of, comfy, monkeypatch):
    asked, policy = [], policy_of(tiny_models.sd3())
    inner = decoding.decode_images
    monkeypatch.setattr(room("nodes.model.policy"), "decode_images", lambda *a: asked.append(a[2]) or inner(*a))
    plain = policy.decode(policy.noise([0]))
    monkeypatch.setattr(decoding, "free_bytes", lambda device: 0)
    torch.testing.assert_close(policy.decode(policy.noise([0])), plain, atol=1e-4, rtol=0)
    assert asked == [False, True]


def test_the_vae_leaves_a_gpu_and_others_stay(decoding, vae, comfy, monkeypatch):
    import comfy.model_management as management

    freed = []
    other = type("Loaded", (), {"model": object()})()
    own = type("Loaded", (), {"model": vae.patcher})()
    monkeypatch.setattr(management, "current_loaded_models", [other, own])
    monkeypatch.setattr(management, "free_memory", lambda size, device, keep_loaded: freed.append(keep_loaded))
    decoding.unload(vae)
    assert freed == [], "on the CPU there is nothing to free"
    monkeypatch.setattr(vae, "device", torch.device("cuda"))
    decoding.unload(vae)
    assert freed == [[other]]
