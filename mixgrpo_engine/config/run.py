"""Settings of what is trained, and of what a run does beside the algorithm."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import setting

PRECISIONS = ("no", "bf16", "fp16")
ADAPTER_KINDS = ("lora", "full")
ADAPTER_DTYPES = ("float32", "bfloat16")


@dataclass
class AdapterConfig:
    """What is trained: a LoRA, or all weights."""

    rank: int = setting(
        32, "Width of the low-rank matrices. File size, memory and capacity grow with it.", minimum=1, maximum=1024
    )
    alpha: float = setting(
        0.0, "The adapter's output is scaled by alpha / rank; so are, in effect, its learning steps. 0 takes the rank.",
        label="lora_alpha", place=36, minimum=0.0, maximum=4096.0, step=0.1, advanced=True,
    )  # fmt: skip
    targets: str = setting(
        "", "Fragments of layer names, separated by commas, e.g. attn, mlp. Empty takes all linear layers of the "
        "transformer blocks.",
        label="lora_targets", place=37, advanced=True,
    )  # fmt: skip
    exclude: str = setting(
        "", "Layers whose name holds one of these fragments (separated by commas) are left out.", advanced=True
    )
    kind: str = setting(
        "lora", "lora, or full: all weights of the transformer, in float32, for diffusers folders only. full takes 16 "
        "bytes a weight (a LoRA of a bf16 model 2), keeps no base model (kl_weight must be 0), and wants a learning "
        "rate near 1e-5.",
        choices=ADAPTER_KINDS,
    )  # fmt: skip
    dtype: str = setting(
        "float32", "Precision of the adapter while it is trained; the model keeps its own. bfloat16 takes half the "
        "memory, but loses small updates in its rounding: for high learning rates only.",
        choices=ADAPTER_DTYPES, advanced=True,
    )  # fmt: skip
    start_from: str = setting(
        "", "A LoRA file to go on from, in place of a new LoRA: the training begins at exactly what it does. Rank and "
        "layers are the file's, and so is alpha where it is 0.",
        advanced=True,
    )  # fmt: skip


@dataclass
class RunConfig:
    """What a run does beside the algorithm."""

    iterations: int = setting(
        300, "How many times images are made, scored and learned from. Time grows with it.",
        minimum=1, maximum=1_000_000,
    )  # fmt: skip
    seed: int = setting(
        0, "The same seed gives the same run. Another seed makes another run.", minimum=0, maximum=2**53 - 1
    )
    width: int = setting(512, "Width of the training images in pixels.", minimum=16, maximum=8192, step=16)
    height: int = setting(512, "Height of the training images in pixels.", minimum=16, maximum=8192, step=16)
    evaluate_every: int = setting(
        25, "Held-out prompts are scored every so many iterations, always with the same noise, and before the first "
        "and after the last. 0 never does it.",
        minimum=0, maximum=1_000_000, changes_training=False, advanced=True,
    )  # fmt: skip
    evaluate_images: int = setting(
        4, "Images a held-out prompt in these evaluations. Time grows with it.",
        minimum=1, maximum=1024, changes_training=False, advanced=True,
    )  # fmt: skip
    checkpoint_every: int = setting(
        10, "A checkpoint is saved every so many iterations, and at a cancel. A killed run loses at most so many.",
        minimum=1, maximum=1_000_000, changes_training=False, advanced=True,
    )  # fmt: skip
    mixed_precision: str = setting(
        "no", "bf16 or fp16 computes faster and less exactly. no leaves the model's own precision alone.",
        choices=PRECISIONS, advanced=True,
    )  # fmt: skip
    gradient_checkpointing: bool = setting(
        False, "Computes activations twice, keeping none: much less memory, about a third more time an update.",
        changes_training=False, advanced=True,
    )  # fmt: skip
    # Started by accelerate; the result is that of one process but for rounding.
    processes: int = setting(
        1, "Processes that share the work, one a GPU of this machine; each holds a copy of the models. The algorithm's "
        "prompts_per_iteration must be at least as many.",
        minimum=1, maximum=1024, changes_training=False, advanced=True,
    )  # fmt: skip
    negative_prompt: str = setting(
        "", "What the images are led away from where the algorithm's cfg isn't 1. Sample later with the same one. "
        "Another negative prompt makes another run.",
        advanced=True,
    )  # fmt: skip
    guidance: float = setting(
        0.0, "What the FluxGuidance node sets, for guidance-distilled models such as FLUX.1-dev: sample later with the "
        "same value. 0 leaves it at the model's default (FLUX: 3.5). Other models have cfg.",
        minimum=0.0, maximum=100.0, step=0.1, advanced=True,
    )  # fmt: skip
    frames: int = setting(
        1, "Frames of a training video, for video models such as Wan (1, 5, 9, 13 ...); the reward is the mean over "
        "its frames. 1 trains on single images.",
        minimum=1, maximum=1024, advanced=True,
    )  # fmt: skip
    sample_every: int = setting(
        25, "Where evaluate_every is 0: images of a few held-out prompts are made and scored every so many "
        "iterations, always with the same noise, for people to look at. 0 never does it.",
        minimum=0, maximum=1_000_000, changes_training=False, advanced=True,
    )  # fmt: skip
    images_mb: int = setting(
        256, "Disk space in MB for the single images of a run's held-out prompts. Where they need more, iterations in "
        "between lose theirs, evenly; the first and the newest stay. Grids have another 100 MB. 0 keeps grids only.",
        minimum=0, maximum=1_000_000, changes_training=False, advanced=True,
    )  # fmt: skip
    # MixGRPO with 8 held-out prompts: 10 steps are 4% of a run, the training's 25 would be 9%.
    evaluate_steps: int = setting(
        10, "Denoising steps of held-out images, by a second-order solver, and no more than the training's steps. Time "
        "grows with it: at the defaults 10 steps for 8 held-out prompts are about 4% of a run. 0 takes the training's "
        "own steps by Euler. A run keeps to what it began with.",
        minimum=0, maximum=1000, changes_training=False, advanced=True,
    )  # fmt: skip
    try_anyway: bool = setting(
        False, "Trains even where the memory estimate says that the GPU is too small, which it then only tells. If "
        "it is right, the run ends when memory runs out.",
        changes_training=False, advanced=True,
    )  # fmt: skip
    compile_blocks: bool = setting(
        False, "Compiles the model's transformer blocks before the first iteration (torch.compile), which takes "
        "minutes at each start: for long runs. On a CPU an update then takes a sixth less time (not run on a GPU). "
        "Where it can't be done, the training goes on without.",
        changes_training=False, advanced=True,
    )  # fmt: skip
    deterministic: bool = setting(
        False, "Computes with operations only that give the same bits each time, so that a run that was stopped and "
        "goes on ends exactly like one that wasn't, on a GPU too. Slower there (not measured); free on a CPU. An "
        "operation without such a form ends the run and is named.",
        changes_training=False, advanced=True,
    )  # fmt: skip
    swapped_blocks: int = setting(
        -1, "Transformer blocks whose weights stay in host memory and come to the GPU while they are at work, with "
        "gradient_checkpointing. -1 takes as few as a model needs that is too large for the GPU, usually none; 0 never "
        "does it. The result stays the same, and takes longer where weights come more slowly than they are used.",
        minimum=-1, maximum=1000, changes_training=False, advanced=True,
    )  # fmt: skip
