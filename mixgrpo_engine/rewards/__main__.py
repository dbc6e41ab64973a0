"""python -m mixgrpo_engine.rewards: lists, downloads and converts the weights of the scorers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..records.readable import never_fail_to_print
from .files.catalog import FILES, by_name, size_text
from .files.convert import convert
from .files.download import DownloadError, download


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m mixgrpo_engine.rewards", description=__doc__.partition(": ")[2])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the known files, their sizes, licences and sources")
    one = commands.add_parser("download", help="fetch a known file into a folder; goes on with an unfinished one")
    one.add_argument("name", help="as `list` writes it")
    one.add_argument("folder", help="ComfyUI's models/reward_models, for example")
    two = commands.add_parser("convert", help="turn a torch file into safetensors")
    two.add_argument("source", help="a .pt, .pth or .bin file")
    two.add_argument("target", help="the .safetensors file to write")
    given = parser.parse_args(arguments)
    never_fail_to_print()
    try:
        if given.command == "list":
            _list()
        elif given.command == "download":
            _download(given.name, given.folder)
        else:
            print(f"{given.target}: {convert(given.source, given.target)} tensors.")
    except (DownloadError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _list() -> None:
    for file in FILES:
        check = f"sha256 {file.sha256}" if file.sha256 else "hash as the hub states it"
        print(f"{file.name}  ({file.terms})\n  {file.page}, {file.path}, {check}")


def _download(name: str, folder: str) -> None:
    file = by_name(name)
    print(f"{file.name}: {file.terms}, from {file.page}")
    shown = -1

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if (percent := done * 100 // total) > shown:
            shown = percent
            print(f"\r{percent}% of {size_text(total)}", end="", flush=True)

    print(f"\n{download(file, folder, progress)}")


if __name__ == "__main__":
    sys.exit(main())
