"""Gives the server's GPU memory to a worker that starts."""

from __future__ import annotations


def free() -> None:
    """At once. Only for the thread that executes prompts: no other node is at work there."""
    import comfy.model_management

    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


def free_between_prompts() -> None:
    """As soon as no prompt is executed, by the thread that executes them: for the HTTP routes."""
    from server import PromptServer

    PromptServer.instance.prompt_queue.set_flag("unload_models", True)
