"""Policies that need no ComfyUI: models in diffusers' own layout, in a local folder."""
