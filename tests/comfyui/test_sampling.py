"""A training's own images in a stock graph on the real server."""

import numpy as np
from PIL import Image

PROMPTS = "a red circle on a white background\ntwo blue squares\na green triangle"


def test_the_sampler_makes_a_trainings_first_group(server):
    """By stock nodes, with the prompt that the sampler names: the same pictures as MixGRPO Group Sample's."""

    def node(kind, /, **inputs):
        return {"class_type": kind, "inputs": inputs}

    graph = {
        "tiny": node("MixGRPO_TinyModel"),
        "jpeg": node("MixGRPO_RewardJPEG", kind="compressibility"),
        "algorithm": node("MixGRPO_Algorithm", steps=8, group_size=4, window_size=3, prompts_per_iteration=2),
        "prompts": node("MixGRPO_Prompts", text=PROMPTS),
        "sampler": node(
            "MixGRPO_Sampler", algorithm=["algorithm", 0], prompts=["prompts", 0], run_seed=5, iteration=1, image=0
        ),
        "positive": node("CLIPTextEncode", clip=["tiny", 1], text=["sampler", 1]),
        "guider": node("BasicGuider", model=["tiny", 0], conditioning=["positive", 0]),
        "sigmas": node("MixGRPO_Sigmas", model=["tiny", 0], steps=8),
        "noise": node("RandomNoise", noise_seed=1234),
        "latents": node("EmptySD3LatentImage", width=64, height=64, batch_size=4),
        "sample": node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["sampler", 0],
            sigmas=["sigmas", 0], latent_image=["latents", 0],
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["tiny", 2]),
        "stock": node("SaveImage", images=["decode", 0], filename_prefix="stock"),
        "group": node(
            "MixGRPO_GroupSample", model=["tiny", 0], vae=["tiny", 2], clip=["tiny", 1], reward=["jpeg", 0],
            algorithm=["algorithm", 0], prompt=["sampler", 1], seed=5, width=64, height=64,
        ),
        "own": node("SaveImage", images=["group", 1], filename_prefix="own"),
    }  # fmt: skip
    outputs = server.outputs(graph)
    stock, own = (
        [np.array(Image.open(server.output / each["filename"])).astype(int) for each in outputs[name]["images"]]
        for name in ("stock", "own")
    )
    assert len(stock) == len(own) == 4
    assert max(abs(one - other).max() for one, other in zip(stock, own, strict=True)) <= 2
    assert min(abs(stock[0] - other).max() for other in stock[1:]) > 25

    graph["sigmas"]["inputs"]["steps"] = 9
    message = server.error(graph)["exception_message"]
    assert "The sigmas aren't this training's in iteration 1: connect MixGRPO Sigmas with steps 8," in message
