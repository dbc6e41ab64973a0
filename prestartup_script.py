"""ComfyUI runs this before it imports any pack.

Relative paths in ComfyUI's arguments count from this folder; a pack may change into another one later, and a training's
worker reads the same arguments.
"""

import os

os.environ["MIXGRPO_START_FOLDER"] = os.getcwd()
