"""A random FLUX of middle size: there, as in real models, forwards cost far more than all that is around them."""

from __future__ import annotations

from mixgrpo_engine.config import TrainConfig
from mixgrpo_engine.prompts import PromptSet

from . import full_size
from .comfyui import import_comfyui, node_module
from .cost import Brightness
from .subject import Subject

PIXELS = 128
PROMPT = "a red circle"
SETTINGS = {
    "rollout": {"steps": 25, "group_size": 12, "prompts_per_iteration": 1},
    "optimizer": {"updates": 4},
    "adapter": {"rank": 16},
    "run": {"width": PIXELS, "height": PIXELS},
}


def load() -> Subject:
    """The model with one prompt, and the paper's sizes of an iteration. Raises FileNotFoundError without ComfyUI."""
    import_comfyui()
    encoded = node_module("model.conditioning").Encoded({PROMPT: full_size.middle_sized_prompt()})
    model, prompts = full_size.middle_sized("middle flux"), PromptSet((PROMPT,), ())
    # The shapes' judge would take long over random pictures, which has nothing to do with the training.
    return Subject(model, full_size.vae(), encoded, prompts, TrainConfig.from_dict(SETTINGS), Brightness())
