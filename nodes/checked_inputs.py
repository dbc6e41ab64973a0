"""Every value that reaches a node is checked against the node's own schema before the node does anything.

ComfyUI checks the bounds of values that are typed in; it lets pass what comes by a link of any type ("*"), plain values
of an API request where a link belongs, and, in some versions, options that don't exist.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ..mixgrpo_engine.config import AdapterConfig, TrainConfig
from ..mixgrpo_engine.prompts import PromptSet
from ..mixgrpo_engine.settings import check_value

WIDGETS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool, "COMBO": str}

# Type of a wire -> (what tells such a value, for other packs' classes too; what to connect otherwise).
WIRES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "MODEL": (lambda value: _has(value, "model", "clone"), "a diffusion model's loader"),
    "CLIP": (lambda value: _has(value, "tokenize", "encode_from_tokens_scheduled"), "a CLIP loader"),
    "VAE": (lambda value: _has(value, "decode", "first_stage_model"), "a VAE loader"),
    "IMAGE": (lambda value: isinstance(value, torch.Tensor), "a node that gives images"),
    "MASK": (lambda value: isinstance(value, torch.Tensor), "a node that gives a mask"),
    "CONDITIONING": (lambda value: isinstance(value, list), "a text encode node"),
    "LATENT": (lambda value: isinstance(value, dict) and "samples" in value, "a node that gives latents"),
    "MIXGRPO_REWARD": (
        lambda value: isinstance(getattr(value, "name", None), str) and callable(getattr(value, "score", None)),
        "a MixGRPO reward node",
    ),
    "MIXGRPO_PROMPTS": (lambda value: isinstance(value, PromptSet), "a MixGRPO Prompts node"),
    "MIXGRPO_ALGORITHM": (lambda value: isinstance(value, TrainConfig), "a MixGRPO Algorithm node"),
    "MIXGRPO_LORA": (lambda value: isinstance(value, AdapterConfig), "a MixGRPO LoRA node"),
    "MIXGRPO_RUN": (
        lambda value: isinstance(value, dict) and isinstance(value.get("run_id"), str),
        "MixGRPO Train or MixGRPO Wait",
    ),
}
LONGEST_OPTION = 1000  # characters: no file's name has so many
KINDS = {str: "string", dict: "table", int: "number", float: "number", type(None): "missing value"}


def checked(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The node class, with inputs that are checked before execute() and check_lazy_status() see them.

    Inputs that validate_inputs() takes, or that the class names in FILES, may have values that aren't among their
    options: the node itself says what is wrong with a file.
    """
    execute: Any = node.execute.__func__  # type: ignore[attr-defined]
    lazy: Any = vars(node).get("check_lazy_status")
    open_ones = {*inspect.signature(node.validate_inputs).parameters, *getattr(node, "FILES", ())}

    def check(cls: Any, given: dict[str, Any]) -> dict[str, Any]:
        schema = cls.define_schema()
        inputs = {each.id: each for each in schema.inputs}

        def one(name: str, value: Any) -> Any:
            if name not in inputs:  # ComfyUI lets links to anything pass
                raise ValueError(f"{schema.display_name} has no input '{name[:40]}': remove it.")
            return _checked(inputs[name], schema.display_name, value, name in open_ones)

        if not schema.is_input_list:
            return {name: one(name, value) for name, value in given.items()}
        lists = {name: [one(name, each) for each in values] for name, values in given.items()}
        for name, values in lists.items():
            if str(inputs[name].get_io_type()) in WIRES and not inputs[name].lazy:
                values[:] = [each for each in values if each is not None]  # an optional wire's null is no value
        return {name: values for name, values in lists.items() if values or not given[name]}

    _, *parameters = inspect.signature(execute).parameters.values()
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    needed = [each.name for each in parameters if each.default is each.empty and each.kind in kinds]

    def complete(cls: Any, given: dict[str, Any]) -> dict[str, Any]:
        values = check(cls, given)
        for name in needed:
            if name not in given:  # ComfyUI looks for them in the nodes that it checks, which aren't all
                what = f"{name} of {cls.define_schema().display_name}"
                raise ValueError(f"{what} is missing: connect it, or give it a value.")
        return values

    def at_once(cls: Any, **given: Any) -> io.NodeOutput:
        return execute(cls, **complete(cls, given))

    async def awaited(cls: Any, **given: Any) -> io.NodeOutput:
        return await execute(cls, **complete(cls, given))

    def lazy_status(cls: Any, **given: Any) -> list[str]:
        return lazy.__func__(cls, **check(cls, given))

    parts = {"execute": classmethod(awaited if inspect.iscoroutinefunction(execute) else at_once)}
    if lazy:
        parts["check_lazy_status"] = classmethod(lazy_status)
    return type(node.__name__, (node,), {**parts, "__module__": node.__module__, "__doc__": node.__doc__})


def _checked(about: io.Input, node: str, value: Any, is_open: bool) -> Any:
    """The value in its own kind. Raises ValueError with one sentence, which names node and input."""
    kind = str(about.get_io_type())
    if kind in WIRES:
        fits, what = WIRES[kind]
        absent = value is None and (about.lazy or about.optional)  # not evaluated yet, or left out
        if not absent and not fits(value):
            found = KINDS.get(type(value), type(value).__name__)
            raise ValueError(f"{about.id} of {node} is a {found}: connect {what}.")
        return value
    if kind not in WIDGETS:
        return value
    if isinstance(value, np.generic):  # what other packs' nodes calculate
        value = value.item()
    if kind == "COMBO" and isinstance(value, str) and len(value) > LONGEST_OPTION:
        raise ValueError(f"{about.id} of {node} has {len(value)} characters: choose one of its options.")
    choices = () if is_open else getattr(about, "options", None) or ()
    low, high, step = (getattr(about, name, None) for name in ("min", "max", "step"))
    return check_value(value, f"{about.id} of {node}", WIDGETS[kind], choices, low, high, step)


def _has(value: object, *names: str) -> bool:
    return all(hasattr(value, name) for name in names)
