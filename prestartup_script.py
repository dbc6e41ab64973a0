"""ComfyUI runs this before it imports any pack.

Relative paths in ComfyUI's arguments count from this folder; a pack may change into another one later, and a training's
worker reads the same arguments.
"""

import io
import os
import sys

os.environ["MIXGRPO_START_FOLDER"] = os.getcwd()

# What a console can't show (ASCII, Windows' code pages) comes out as its number, not as an error of ComfyUI's log.
for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
