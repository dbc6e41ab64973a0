"""MixGRPO for ComfyUI: align flow-matching image models with human preference."""

WEB_DIRECTORY = "./nodes/web"


async def comfy_entrypoint() -> object:
    from .nodes import MixGRPOExtension

    return MixGRPOExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
