"""A whole training of videos: Wan 2.1 from stock loaders, through a failure, to a LoRA in stock sampling."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.nodes import tiny_models

FRAMES, SIDE, SEED = 5, 64, 4
STRENGTH = 4.0  # of the LoRA: two iterations change less than a PNG's levels show in every frame
SAMPLING = {"seed": SEED, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture(scope="module")
def wan_files(comfy, server):
    """A tiny random Wan 2.1 and its VAE in the server's model folders."""
    network = tiny_models.wan21(**tiny_models.WAN_FILE).model.diffusion_model
    for folder, module in (("diffusion_models", network), ("vae", tiny_models.wan_vae().first_stage_model)):
        path = server.base / "models" / folder / "tiny_wan.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, path)


def loaders():
    return {
        "model": node("UNETLoader", unet_name="tiny_wan.safetensors", weight_dtype="default"),
        "vae": node("VAELoader", vae_name="tiny_wan.safetensors"),
        "clip": node("Test_Clip", width=tiny_models.WAN_FILE["text_dim"]),
    }


def sampled(model, name):
    """Nodes that sample, decode and save a video of "red"."""
    return {
        f"{name} latent": node("EmptyHunyuanLatentVideo", width=SIDE, height=SIDE, length=FRAMES, batch_size=1),
        f"{name} prompt": node("CLIPTextEncode", clip=["clip", 0], text="red"),
        f"{name} sampled": node(
            "KSampler", model=model, positive=[f"{name} prompt", 0], negative=[f"{name} prompt", 0],
            latent_image=[f"{name} latent", 0], denoise=1.0, **SAMPLING,
        ),
        f"{name} decoded": node("VAEDecode", samples=[f"{name} sampled", 0], vae=["vae", 0]),
        name: node("SaveImage", images=[f"{name} decoded", 0], filename_prefix=f"video/{name}"),
    }  # fmt: skip


def pixels(path):
    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).astype(np.float32) / 255)


@pytest.fixture(scope="module")
def trained(server, graphs, wan_files):
    """The id of a run that failed in its second iteration and was queued again."""
    # Calls of the reward: held-out videos, the first group, held-out videos, the second group.
    graph = graphs.train("videos", fail_at=4, evaluate_every=1, frames=FRAMES, gradient_checkpointing=True)
    graph |= loaders()
    graph["algorithm"]["inputs"]["learning_rate"] = 0.02
    assert "The red light went out at call 4." in server.error(graph)["exception_message"]
    return server.run_id(server.outputs(graph))


@pytest.fixture(scope="module")
def compared(server, trained):
    """Outputs of a prompt that samples and scores videos of base and tuned model, and Evaluate's report."""
    graph = {
        **loaders(),
        "apply": node("MixGRPO_ApplyRun", model=["model", 0], run_id=trained, strength=STRENGTH),
        "stock": node(
            "LoraLoaderModelOnly", model=["model", 0], lora_name=f"mixgrpo/{trained}.safetensors",
            strength_model=STRENGTH,
        ),
        "same": node("Test_SamePatches", one=["apply", 0], other=["stock", 0]),
        **sampled(["model", 0], "base"),
        **sampled(["stock", 0], "tuned"),
        "reward": node("Test_Reward"),
        "score": node("MixGRPO_Score", images=["tuned decoded", 0], reward=["reward", 0], prompt="red"),
        "evaluate": node(
            "MixGRPO_Evaluate", base=["model", 0], tuned=["apply", 0], clip=["clip", 0], vae=["vae", 0],
            reward=["reward", 0], text="red", images_per_prompt=1, width=SIDE, height=SIDE, frames=FRAMES, **SAMPLING,
        ),
        "grid": node("SaveImage", images=["evaluate", 0], filename_prefix="video/evaluated"),
    }  # fmt: skip
    outputs = server.outputs(graph)
    (file,) = [file for file in outputs["evaluate"]["files"] if file["filename"].endswith(".json")]
    report = json.loads((server.output / file["subfolder"] / file["filename"]).read_text())
    return outputs, report


def videos(server, compared):
    """(frames, height, width, 3) of base and tuned model, as the files hold them."""
    files = (compared[0][name]["images"] for name in ("base", "tuned"))
    return [torch.stack([pixels(server.output / f["subfolder"] / f["filename"]) for f in each]) for each in files]


def test_a_run_of_videos_goes_on_after_a_failure_and_ends(server, trained):
    events, run = server.events(trained), server.run(trained)
    assert (run["state"], run["iteration"], run["config"]["run"]["frames"]) == ("finished", 2, FRAMES)
    assert "Resumed after iteration 1." in [event.get("message") for event in events]
    assert [event["iteration"] for event in events if event["type"] == "evaluation"] == [0, 1, 2]
    iterations = [event for event in events if event["type"] == "iteration"]
    assert [event["iteration"] for event in iterations] == [1, 2]
    assert all(event["reward_std"] > 0 and event["grad_norm"] > 0 for event in iterations)
    assert all(e["message"].startswith("Memory, estimated: ") for e in events if e["type"] == "notice")


def test_the_lora_of_videos_is_whole_in_stock_loaders_and_changes_every_frame(server, trained, compared):
    layers = {name.rsplit(".lora_", 1)[0] for name in load_file(server.lora(trained)) if ".lora_" in name}
    # Queries, keys, values and outputs of self and cross attention in both blocks.
    assert len(layers) == 16 == int(compared[0]["same"]["text"][0])
    assert "lora key not loaded" not in server.log.read_text()
    base, tuned = videos(server, compared)
    assert base.shape == tuned.shape == (FRAMES, SIDE, SIDE, 3)
    assert (base - tuned).abs().amax((1, 2, 3)).min() > 4 / 255, "some frame is still the base model's"
    assert (base[0] - base[-1]).abs().max() > 4 / 255, "nothing moves: the frames are one and the same"


def test_a_video_is_scored_frame_by_frame_and_evaluated_as_their_mean(server, compared):
    outputs, report = compared
    base, tuned = (video[..., 0].mean((1, 2)).tolist() for video in videos(server, compared))
    assert outputs["score"]["scores"] == pytest.approx(tuned, abs=1 / 255)
    (entry,) = report["prompts"]
    assert report["settings"]["frames"] == FRAMES
    for model, frames in (("base", base), ("tuned", tuned)):
        assert entry[model]["redness"] == [pytest.approx(sum(frames) / FRAMES, abs=1 / 255)]


def test_grids_show_the_first_the_middle_and_the_last_frame_side_by_side(server, trained, compared):
    (file,) = compared[0]["grid"]["images"]
    sheet = pixels(server.output / file["subfolder"] / file["filename"])
    base, _ = videos(server, compared)
    # A frame is 128 pixels wide there: every second row and column is one of the video's.
    shown = sheet[26 : 26 + 128 : 2, 6 : 6 + 3 * 128 : 2]
    assert (shown - torch.cat([base[0], base[2], base[4]], dim=1)).abs().max() < 2 / 255
    samples = sorted(server.folder(trained).joinpath("samples").glob("*.png"))
    assert [path.name for path in samples] == [f"iteration_{number:06}.png" for number in range(3)]
    sizes = {Image.open(path).size for path in samples}
    assert sizes == {(2 * (320 + 6) + 6, 26 + 107 + 26 + 6)}
    assert (pixels(samples[0]) - pixels(samples[-1])).abs().max() > 4 / 255
