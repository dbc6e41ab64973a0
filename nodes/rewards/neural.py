"""The nodes of the scorers with a neural network: HPS, PickScore, ImageReward, CLIPScore, CLIP similarity, Aesthetic.

A node only finds its files; the network is read when it first scores. So a graph that trains never loads it here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from comfy_api.latest import io

from ...mixgrpo_engine.rewards.networks.clip_model import ACTIVATIONS
from ...mixgrpo_engine.rewards.networks.model_reward import DTYPES, ModelReward
from ..category import REWARDS, found_by
from . import weights as files_of
from .fetch import obtain
from .residence import AUTO, DEVICES, model_options, residence
from .reward_type import REWARD

SAME_PROMPT = "Its scores compare images of the same prompt only: never rank images of different prompts by them."

# Scorers in use, so that two nodes with the same files don't hold the network twice.
_in_use: WeakValueDictionary[tuple, ModelReward] = WeakValueDictionary()


def _weights_input(name: str, slot: files_of.Slot, tooltip: str) -> io.Combo.Input:
    offered = files_of.choices(slot)
    return io.Combo.Input(name, options=offered, default=offered[0], tooltip=tooltip)


def _activation_input() -> io.Combo.Input:
    return io.Combo.Input(
        "activation", options=list(ACTIVATIONS), default=ACTIVATIONS[0],
        tooltip="The CLIP's activation function, which its weights don't tell: quick_gelu for OpenAI's, gelu for "
        "LAION's. auto goes by config.json beside the file, else by the size: quick_gelu for ViT-B and ViT-L.",
    )  # fmt: skip


def _options_inputs() -> list:
    return [
        io.Combo.Input(
            "device", options=list(DEVICES), default=DEVICES[0],
            tooltip="Where it computes: default is ComfyUI's device; cpu is slow, but needs none of the GPU's memory.",
        ),
        io.Combo.Input(
            "dtype", options=[AUTO, *DTYPES], default=AUTO,
            tooltip="Number type of weights and arithmetic. auto is float16 on a GPU that is good at it, else float32.",
        ),
        io.Int.Input(
            "batch_size", default=16, min=0, max=4096,
            tooltip="Images scored at once; 0 takes all. Halved by itself when memory runs out.",
        ),
        io.Boolean.Input(
            "keep_loaded", default=False,
            tooltip="In a training: stays on the device between iterations, which is faster and takes its memory. In "
            "this server ComfyUI's memory management decides.",
        ),
    ]  # fmt: skip


def _schema(node_id: str, name: str, description: str, inputs: list, output: str, *words: str) -> io.Schema:
    """words: by which it is found, in the place of those of rewards for preference."""
    return io.Schema(
        node_id=node_id,
        display_name=f"MixGRPO Reward: {name}",
        category=REWARDS,
        **found_by(*(words or ("reward model", "preference", "aesthetic", "RLHF", "image score"))),
        description=description,
        inputs=[*inputs, *_options_inputs()],
        outputs=[REWARD.Output(display_name="reward", tooltip=output)],
    )


def _make(
    scorer: Callable[..., ModelReward], files: list[Path | None], options: tuple[str, str, int, bool], **more: Any
) -> io.NodeOutput:
    """The scorer of these files, the one that is in use already if there is one."""
    settings = model_options(*options)
    key = (scorer, *map(_identity, [*files, *more.values()]), settings)
    reward = _in_use.get(key)
    if reward is None:
        reward = _in_use[key] = scorer(*files, settings, residence(settings), **more)
    return io.NodeOutput(reward)


def _identity(value: object) -> object:
    """A file as it is now, or another value itself."""
    return (str(value), value.stat().st_mtime_ns) if isinstance(value, Path) else value


def _need_transformers(name: str) -> None:
    if importlib.util.find_spec("transformers") is None:
        raise ValueError(f"{name} needs the Python package transformers: install it with ComfyUI's own Python.")


def clip_words() -> Path:
    """The folder of CLIP's vocab.json and merges.txt, which every ComfyUI has."""
    import comfy.sd1_clip

    return Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"


class MixGRPORewardHPS(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema(
            "MixGRPO_RewardHPS",
            "HPS v2.1",
            "HPS v2.1 (Human Preference Score): which of several images of one prompt people like best. Used by the "
            f"MixGRPO paper. {SAME_PROMPT}",
            [_weights_input("weights", files_of.HPS, "HPS_v2.1_compressed.pt, or the same as .safetensors.")],
            f"About 0.2 to 0.4, higher is better. {SAME_PROMPT}",
        )

    @classmethod
    def validate_inputs(cls, weights: str | None = None) -> bool | str:
        return _usable((files_of.HPS, weights))

    @classmethod
    def fingerprint_inputs(cls, weights: str | None = None, **options: Any) -> tuple:
        return _stamps(options, (files_of.HPS, weights))

    @classmethod
    def execute(cls, weights: str, device: str, dtype: str, batch_size: int, keep_loaded: bool) -> io.NodeOutput:
        from ...mixgrpo_engine.rewards.hps import HPSReward

        _need_transformers("HPS")
        return _make(HPSReward, [obtain(files_of.HPS, weights), clip_words()], (device, dtype, batch_size, keep_loaded))


class MixGRPORewardPickScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema(
            "MixGRPO_RewardPickScore",
            "PickScore",
            "PickScore: which of several images of one prompt people would pick, from half a million choices. "
            f"{SAME_PROMPT}",
            [_weights_input("weights", files_of.PICK_SCORE, "model.safetensors of yuvalkirstain/PickScore_v1.")],
            f"About 18 to 24, higher is better. {SAME_PROMPT}",
        )

    @classmethod
    def validate_inputs(cls, weights: str | None = None) -> bool | str:
        return _usable((files_of.PICK_SCORE, weights))

    @classmethod
    def fingerprint_inputs(cls, weights: str | None = None, **options: Any) -> tuple:
        return _stamps(options, (files_of.PICK_SCORE, weights))

    @classmethod
    def execute(cls, weights: str, device: str, dtype: str, batch_size: int, keep_loaded: bool) -> io.NodeOutput:
        from ...mixgrpo_engine.rewards.pick_score import PickScoreReward

        _need_transformers("PickScore")
        files = [obtain(files_of.PICK_SCORE, weights), clip_words()]
        return _make(PickScoreReward, files, (device, dtype, batch_size, keep_loaded))


class MixGRPORewardImageReward(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema(
            "MixGRPO_RewardImageReward",
            "ImageReward",
            "ImageReward: how much people like an image for its prompt, from 137,000 comparisons by experts. Scores "
            "of different prompts may be compared.",
            [
                _weights_input("weights", files_of.IMAGE_REWARD, "ImageReward.pt, or the same as .safetensors."),
                _weights_input(
                    "vocab", files_of.BERT_VOCAB, "vocab.txt of bert-base-uncased: the words of its text encoder."
                ),
            ],
            "Mostly -2 to 2, about 0 on average; higher is better.",
        )

    @classmethod
    def validate_inputs(cls, weights: str | None = None, vocab: str | None = None) -> bool | str:
        return _usable((files_of.IMAGE_REWARD, weights), (files_of.BERT_VOCAB, vocab))

    @classmethod
    def fingerprint_inputs(cls, weights: str | None = None, vocab: str | None = None, **options: Any) -> tuple:
        return _stamps(options, (files_of.IMAGE_REWARD, weights), (files_of.BERT_VOCAB, vocab))

    @classmethod
    def execute(
        cls, weights: str, vocab: str, device: str, dtype: str, batch_size: int, keep_loaded: bool
    ) -> io.NodeOutput:
        from ...mixgrpo_engine.rewards.image_reward import ImageRewardReward

        _need_transformers("ImageReward")
        files = [obtain(files_of.IMAGE_REWARD, weights), obtain(files_of.BERT_VOCAB, vocab)]
        return _make(ImageRewardReward, files, (device, dtype, batch_size, keep_loaded))


class MixGRPORewardCLIPScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema(
            "MixGRPO_RewardCLIPScore",
            "CLIPScore",
            "CLIPScore: how well an image fits its prompt, as CLIP sees it. It keeps a training from forgetting the "
            "prompt; alone it says little about beauty.",
            [
                _weights_input(
                    "weights", files_of.CLIP,
                    "A whole CLIP such as model.safetensors of openai/clip-vit-large-patch14, or an image encoder from "
                    "ComfyUI's clip_vision folder together with text_weights.",
                ),
                _weights_input(
                    "text_weights", files_of.CLIP_TEXT,
                    "The matching text encoder from ComfyUI's text_encoders folder, if weights holds the image encoder "
                    "alone; none for a whole CLIP.",
                ),
                _activation_input(),
            ],
            "100 x the cosine between image and prompt, mostly 15 to 40; higher is better.",
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, weights: str | None = None, text_weights: str | None = None) -> bool | str:
        return _usable((files_of.CLIP, weights), (files_of.CLIP_TEXT, text_weights))

    @classmethod
    def fingerprint_inputs(cls, weights: str | None = None, text_weights: str | None = None, **options: Any) -> tuple:
        return _stamps(options, (files_of.CLIP, weights), (files_of.CLIP_TEXT, text_weights))

    @classmethod
    def execute(
        cls,
        weights: str,
        text_weights: str,
        activation: str,
        device: str,
        dtype: str,
        batch_size: int,
        keep_loaded: bool,
    ) -> io.NodeOutput:
        from ...mixgrpo_engine.rewards.clip_score import ClipScoreReward

        _need_transformers("CLIPScore")
        return _make(
            ClipScoreReward,
            [obtain(files_of.CLIP, weights), clip_words()],
            (device, dtype, batch_size, keep_loaded),
            text_weights=obtain(files_of.CLIP_TEXT, text_weights),
            activation=activation,
        )


class MixGRPORewardCLIPSimilarity(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema(
            "MixGRPO_RewardCLIPSimilarity",
            "CLIP Similarity",
            "How much an edited image still looks like its source picture, as CLIP sees it (CLIP-I). Best when nothing "
            "is edited: mix it with a reward that reads the prompt. It needs a source picture.",
            [
                _weights_input(
                    "weights", files_of.CLIP,
                    "A whole CLIP such as model.safetensors of openai/clip-vit-large-patch14, or an image encoder from "
                    "ComfyUI's clip_vision folder.",
                ),
                _activation_input(),
            ],
            "The cosine between image and source, mostly 0.5 to 1; 1 is the same picture.",
            "edit", "CLIP-I", "identity", "image similarity", "preservation",
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, weights: str | None = None) -> bool | str:
        return _usable((files_of.CLIP, weights))

    @classmethod
    def fingerprint_inputs(cls, weights: str | None = None, **options: Any) -> tuple:
        return _stamps(options, (files_of.CLIP, weights))

    @classmethod
    def execute(
        cls, weights: str, activation: str, device: str, dtype: str, batch_size: int, keep_loaded: bool
    ) -> io.NodeOutput:
        from ...mixgrpo_engine.rewards.clip_similarity import ClipSimilarityReward

        _need_transformers("CLIP Similarity")
        files = [obtain(files_of.CLIP, weights)]
        return _make(ClipSimilarityReward, files, (device, dtype, batch_size, keep_loaded), activation=activation)


class MixGRPORewardAesthetic(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema(
            "MixGRPO_RewardAesthetic",
            "Aesthetic",
            "LAION's improved aesthetic predictor: how beautiful people find an image, 1 to 10. It doesn't read the "
            "prompt, so use it in a mix.",
            [
                _weights_input("head", files_of.AESTHETIC, "sac+logos+ava1-l14-linearMSE.pth, the predictor itself."),
                _weights_input(
                    "clip", files_of.EYES,
                    "OpenAI's CLIP ViT-L/14, through which it looks: a whole CLIP, or its image encoder.",
                ),
            ],
            "Mostly 3 to 8, higher is better.",
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, head: str | None = None, clip: str | None = None) -> bool | str:
        return _usable((files_of.AESTHETIC, head), (files_of.EYES, clip))

    @classmethod
    def fingerprint_inputs(cls, head: str | None = None, clip: str | None = None, **options: Any) -> tuple:
        return _stamps(options, (files_of.AESTHETIC, head), (files_of.EYES, clip))

    @classmethod
    def execute(
        cls, head: str, clip: str, device: str, dtype: str, batch_size: int, keep_loaded: bool
    ) -> io.NodeOutput:
        from ...mixgrpo_engine.rewards.aesthetic import AestheticReward

        _need_transformers("The aesthetic predictor")
        files = [obtain(files_of.AESTHETIC, head), obtain(files_of.EYES, clip)]
        return _make(AestheticReward, files, (device, dtype, batch_size, keep_loaded))


def _usable(*widgets: tuple[files_of.Slot, str | None]) -> bool | str:
    """True, or what is wrong with the first widget that can't be used."""
    return next((said for slot, value in widgets if (said := files_of.is_usable(slot, value)) is not True), True)


def _stamps(options: dict, *widgets: tuple[files_of.Slot, str | None]) -> tuple:
    return (sorted(options.items()), *(files_of.stamp(slot, value) for slot, value in widgets))


NODES = [
    MixGRPORewardHPS,
    MixGRPORewardPickScore,
    MixGRPORewardImageReward,
    MixGRPORewardCLIPScore,
    MixGRPORewardAesthetic,
    MixGRPORewardCLIPSimilarity,
]
