"""The training's sampling as nodes."""
