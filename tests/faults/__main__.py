"""What may happen to runs and to the server, again and again: python -m tests.faults [parts]  (make faults N=1000).

Each part ends with an error at the first thing that isn't as it must be. Without a part's name: all of them, about an
hour on two cores.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

PARTS = {
    "operations": "a training killed, its disk full or read-only, at every file operation",
    "kills": "a training killed at random moments (--kills)",
    "server": "workers of a real server killed at random moments (--server-kills)",
    "votes": "who votes and who adds images to vote on killed at random moments (--vote-kills)",
    "requests": "requests that nobody should make (--requests)",
    "graphs": "graphs that nobody should queue (--graphs)",
    "load": "answer times of a server with many runs (--runs)",
    "panel": "how soon the panel shows so many runs, and long ones (--runs)",
}


def main(arguments):
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.split("\n\n")[1])
    parser.add_argument("parts", nargs="*", metavar="part", help="; ".join(f"{k}: {v}" for k, v in PARTS.items()))
    for name, default, text in (
        ("kills", 1000, "of the toy training"), ("server-kills", 20, "of a server's workers"),
        ("vote-kills", 200, "of a voter"),
        ("every", 1, "strike at every so many-th file operation only"), ("first", 1, "file operation to strike at"),
        ("requests", 100_000, ""), ("graphs", 20_000, ""), ("runs", 2000, "in the server under load"),
        ("seed", 14, "of all draws"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} ({default})".strip())
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.parts) - PARTS.keys():
        parser.error(f"there is no part {min(unknown)}: choose of {', '.join(PARTS)}")

    def part(module, function, *numbers):
        with tempfile.TemporaryDirectory(prefix="mixgrpo-faults-") as place:
            # Only what is asked for is imported: kills.py wants torch, but no server.
            for line in getattr(importlib.import_module(f"tests.faults.{module}"), function)(Path(place), *numbers):
                print(line, flush=True)

    calls = {
        "operations": ("kills", "all_operations", chosen.every, chosen.first),
        "kills": ("kills", "random_moments", chosen.kills, chosen.seed),
        "server": ("server_kills", "random_moments", chosen.server_kills, chosen.seed),
        "votes": ("vote_kills", "random_moments", chosen.vote_kills, chosen.seed),
        "requests": ("requests", "fuzz", chosen.requests, chosen.seed),
        "graphs": ("graphs", "fuzz", chosen.graphs, chosen.seed),
        "load": ("load", "measure", chosen.runs),
        "panel": ("first_paint", "measure", chosen.runs),
    }
    for name in chosen.parts or PARTS:
        part(*calls[name])


if __name__ == "__main__":
    main(sys.argv[1:])
