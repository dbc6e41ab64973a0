"""The worker's script: `python entry.py <run folder>`, with the server's orders as JSON in its stdin.

ComfyUI isn't there yet, so the pack can't be imported as it is: the packages above worker/ are entered into
sys.modules without running their __init__ (which needs ComfyUI). What runs before the boot is imported this way;
afterwards the pack is the one that ComfyUI has loaded.
"""

import importlib
import sys
import types
from pathlib import Path

PACK = Path(__file__).absolute().parent.parent.parent
NAME = "mixgrpo_worker_boot"


def main() -> int:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        print("This script is started by the MixGRPO Train node, with a run folder as its only argument.")
        return 2
    # The script's own folder comes first in sys.path and must shadow nothing.
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]
    for name, folder in ((NAME, PACK), (f"{NAME}.nodes", PACK / "nodes")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    return importlib.import_module(f"{NAME}.nodes.worker.run").run(Path(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
