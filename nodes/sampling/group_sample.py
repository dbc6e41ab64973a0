"""MixGRPO_GroupSample: the group of images that an iteration of the training compares, to look at before a run."""

from __future__ import annotations

import json
import math

import torch
from comfy_api.latest import io
from torch import Tensor

from ...mixgrpo_engine import seeds
from ...mixgrpo_engine.advantage import group_advantages
from ...mixgrpo_engine.config import TrainConfig
from ...mixgrpo_engine.records.grid import labelled_grid, stills
from ...mixgrpo_engine.rewards import Reward
from ...mixgrpo_engine.rewards.references import check_references
from ...mixgrpo_engine.rewards.scoring import score_images
from ..algorithm import ALGORITHM
from ..category import SAMPLING
from ..comfy_types import Clip, Conditioning, Model, Vae
from ..model.conditioning import encode_prompts
from ..model.decoding import decode_images
from ..model.families import check_flow_matching
from ..model.policy import latent_shape, seeded_noise
from ..model.schedule import check_window, window_sigmas
from ..model.video import filmstrip, latent_frames, reward_of_videos, single_frames
from ..rewards import REWARD
from ..rewards.cancelling import until_cancelled
from ..rewards.plain_prompts import reading_plain_prompts
from .sampler import rollout_sampler

CELL = 192  # pixels of an image in the grid


class MixGRPOGroupSample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_GroupSample",
            display_name="MixGRPO Group Sample",
            category=SAMPLING,
            description="What the training sees in one iteration: a group of images of one prompt, each with its "
            "reward and its advantage over the group. Tune eta, the window and the reward by eye before a long run.",
            inputs=[
                io.Model.Input("model", tooltip="The flow-matching model to be trained."),
                io.Vae.Input("vae", tooltip="Decodes the images for the reward."),
                REWARD.Input("reward", tooltip="Scores the images, higher is better; or a mix of rewards."),
                ALGORITHM.Input(
                    "algorithm",
                    tooltip="How the group is sampled and compared: steps, eta, group and window size, Flash, cfg ...",
                ),
                io.String.Input(
                    "prompt", multiline=True, default="",
                    tooltip="The group's prompt. The reward always gets it; the model gets it from clip, or its "
                    "encoding from positive.",
                ),
                io.Int.Input(
                    "window_start", default=0, min=0, max=9999,
                    tooltip="Index of the window's first step, from 0: the training begins there and slides on. The "
                    "window's size stands in the algorithm.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**53 - 1, control_after_generate=False,
                    tooltip="Of the initial noise and the noise in the window; change it to see other groups. Image k "
                    "is the same in a smaller or larger group. A training's seed and the prompt that it begins with "
                    "give its first group.",
                ),
                io.Int.Input("width", default=512, min=16, max=8192, step=8, tooltip="Pixels of an image."),
                io.Int.Input("height", default=512, min=16, max=8192, step=8, tooltip="Pixels of an image."),
                io.Clip.Input(
                    "clip", optional=True, tooltip="Encodes the prompt. It isn't needed where positive is connected."
                ),
                io.Conditioning.Input(
                    "positive", optional=True,
                    tooltip="The prompt's encoding, if it should be another one than clip's.",
                ),
                io.Conditioning.Input(
                    "negative", optional=True,
                    tooltip="The negative prompt. Without it: clip's encoding of nothing, as in the training. Unused "
                    "at cfg 1.",
                ),
                io.Int.Input(
                    "frames", default=1, min=1, max=1024, optional=True,
                    tooltip="Frames of a video, for video models such as Wan (1, 5, 9, 13 ...); its reward is the mean "
                    "over its frames. 1 samples images.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="grid", tooltip="One picture of all images, with reward and advantage below each."
                ),
                io.Image.Output(
                    display_name="images",
                    tooltip="The images as a batch, in the grid's order; of videos all frames of the first, then of "
                    "the next.",
                ),
                io.String.Output(
                    display_name="scores", tooltip="JSON: settings, and of every image its rewards and its advantage."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: Model, vae: Vae, reward: Reward, algorithm: TrainConfig, prompt: str, window_start: int, seed: int,
        width: int, height: int, clip: Clip | None = None, positive: Conditioning | None = None,
        negative: Conditioning | None = None, frames: int = 1,
    ) -> io.NodeOutput:  # fmt: skip
        check_flow_matching(model)
        check_references(reward, None)
        window = range(window_start, window_start + algorithm.window_size)
        positive, negative = _conditions(clip, prompt, positive, negative, algorithm.rollout.cfg)
        images = sample_group(model, vae, positive, negative, algorithm, window, seed, width, height, frames)
        size = len(images)
        with until_cancelled():
            scorer = reward_of_videos(reading_plain_prompts(reward), frames)
            scored = score_images(scorer, [images], [prompt] * size)
        rewards, options = scored.parts, algorithm.loss
        # As the training does: each scorer of a mix has advantages of its own.
        clip, spread = options.advantage_clip, options.spread
        advantages = group_advantages(rewards, size, scored.shares, options.mix, clip, spread)
        settings = {
            "prompt": prompt,
            "seed": seed,
            "window": [window.start, window.stop],
            "steps": algorithm.rollout.steps,
            "transition": None if options.surrogate == "nft" else algorithm.rollout.transition,  # it has no random step
            "eta": None if options.surrogate == "nft" else algorithm.rollout.eta,
            "reasons": list(scored.reasons),
            "remarks": list(scored.remarks),
        }
        scores = json.dumps({**settings, "images": _table(rewards, advantages)}, indent=1, allow_nan=False)
        grid = _grid(images, rewards, advantages, settings, frames)
        return io.NodeOutput(grid, single_frames(images, frames), scores)


def sample_group(
    model: Model, vae: Vae, positive: Conditioning, negative: Conditioning, algorithm: TrainConfig, window: range,
    seed: int, width: int, height: int, frames: int = 1,
) -> Tensor:  # fmt: skip
    """The group's images: float32 (group_size, height, width, 3) in 0..1, on the CPU; of videos filmstrips.

    The rollout of the training, on the MODEL as ComfyUI itself samples it: nothing is copied, offloading works.
    Raises ValueError for a window that doesn't fit the steps, or a VAE, size or number of frames that doesn't fit the
    model.
    """
    import comfy.samplers
    import comfy.utils
    import latent_preview

    options = algorithm.rollout
    check_window(window, options.steps)
    model_sampling = model.get_model_object("model_sampling")
    sigmas = window_sigmas(model_sampling, options.steps, options.shift, window, options.flash_ratio, options.spacing)
    starts = 1 if options.shared_noise else options.group_size
    shape = latent_shape(model.model.latent_format, vae, width, height, latent_frames(model, vae, frames))
    noise = seeded_noise(shape, seeds.start_seeds(seed, 0, range(starts)))
    noise = noise.expand(options.group_size, *shape).contiguous()
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(options.cfg)
    sampler = rollout_sampler(
        window,
        transition=options.transition,
        eta=options.eta,
        tail_order=options.tail_order,
        tail_variant=options.tail_variant,
        shared_noise=options.shared_noise,
        batch_size=options.batch_size,
        generators=lambda count: seeds.window_generators(seed, 0, range(count)),
        surrogate=algorithm.loss.surrogate,
    )
    latents = guider.sample(
        noise,
        torch.zeros_like(noise),
        sampler,
        sigmas,
        callback=latent_preview.prepare_callback(model, len(sigmas) - 1),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    return filmstrip(decode_images(vae, latents), options.group_size)


def _conditions(
    clip: Clip | None, prompt: str, positive: Conditioning | None, negative: Conditioning | None, cfg: float
) -> tuple[Conditioning, Conditioning]:
    """(positive, negative) as CONDITIONING. Raises ValueError when neither CLIP nor conditioning gives one of them."""
    if positive is None:
        if clip is None:
            raise ValueError("Neither clip nor positive is connected: connect one of them, the model needs a prompt.")
        positive = encode_prompts(clip, [prompt])[prompt]
    if negative is None and cfg == 1:
        negative = positive  # ComfyUI leaves it out
    elif negative is None:
        if clip is None:
            raise ValueError(f"cfg is {cfg:g} without a negative prompt: connect negative or clip, or set cfg to 1.")
        negative = encode_prompts(clip, [""])[""]
    return positive, negative


def _table(rewards: dict[str, Tensor], advantages: Tensor) -> list[dict]:
    """One entry an image; a failed score is None."""
    return [
        {
            "image": index,
            "rewards": {name: _number(values[index]) for name, values in rewards.items()},
            "advantage": _number(advantages[index]),
        }
        for index in range(len(advantages))
    ]


def _number(value: Tensor) -> float | None:
    return float(value) if math.isfinite(value) else None


def _grid(images: Tensor, rewards: dict[str, Tensor], advantages: Tensor, settings: dict, frames: int) -> Tensor:
    """The labelled grid as IMAGE: (1, height, width, 3); of videos some frames side by side."""
    import numpy as np

    labels = [_label(entry) for entry in _table(rewards, advantages)]
    first, end = settings["window"]
    noise = f"{settings['transition']}, eta {settings['eta']:g}" if settings["transition"] else "no random step"
    title = f"window {first}..{end - 1} of {settings['steps']} steps, {noise}"
    images, which = stills(images, frames)
    columns = math.ceil(math.sqrt(len(images))) if frames == 1 else 2
    cell = CELL if frames == 1 else 2 * CELL
    title = f"{title}: {which}" if which else title
    sheet = labelled_grid(images, labels, columns, cell=cell, title=title, label_lines=1 + len(rewards))
    return torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255)[None]


def _label(entry: dict) -> str:
    scores = [f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in entry["rewards"].items()]
    return f"#{entry['image']} {' '.join(scores)} advantage {entry['advantage']:+.2f}"


NODES = [MixGRPOGroupSample]
