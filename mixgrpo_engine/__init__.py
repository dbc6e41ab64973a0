"""MixGRPO (arXiv 2507.21802) for flow-matching image models: torch only, no ComfyUI.

Import the modules by name (`from mixgrpo_engine.rollout import rollout`); nothing heavy is imported here.
"""

__version__ = "0.1.0"
