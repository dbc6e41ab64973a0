"""The one place of the pretraining that imports ComfyUI. COMFYUI_DIR says where it is (default: .comfyui)."""

import os
import sys
from pathlib import Path

_ROOT = Path(os.environ.get("COMFYUI_DIR") or Path(__file__).resolve().parents[1] / ".comfyui")
if not (_ROOT / "comfy").is_dir():
    raise ImportError(f"no ComfyUI in {_ROOT}; set COMFYUI_DIR to a folder that has one")
# At the end: the folder has a nodes.py, which must not hide this repository's nodes/.
sys.path.append(str(_ROOT))

from comfy.cli_args import args  # noqa: E402

args.cpu = True
args.use_pytorch_cross_attention = True

from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper as MMDiT  # noqa: E402

__all__ = ["MMDiT"]
