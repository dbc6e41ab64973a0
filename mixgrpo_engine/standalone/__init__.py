"""Runs without ComfyUI: the command line's run file and what it starts."""
