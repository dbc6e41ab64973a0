"""`python -m benchmarks gpu`: all sections, their results as gpu.json and gpu.md."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from mixgrpo_engine import deterministic
from mixgrpo_engine.records.files import write_json

from .. import comfyui
from . import costs, faithful, limits, other_paths, report
from .carry import carry
from .check import Check

# The most wanted first: when the time is over, the rest is left out.
SECTIONS = (
    costs.machine, costs.SD35, faithful.families, costs.FLUX, limits.out_of_memory, faithful.resume,
    faithful.gradient_to_float32, costs.FLUX_FP8, limits.waits, limits.switches, costs.FLUX_1024, costs.SD35_1024,
    limits.from_host_memory, other_paths.diffusers_flux, costs.FLUX_FP8_1024, costs.SD35_FP8, costs.SD35_FP8_1024,
    costs.flux_512_slow,
)  # fmt: skip
NO_GPU = "benchmarks gpu: torch sees no CUDA device here; --tiny tries the same code with tiny models on the CPU."


def main(arguments: Sequence[str]) -> str | int:
    """What sys.exit() takes: 0, 1 where a section failed, or a sentence about why there is nothing to report."""
    options = parse(arguments)
    try:
        if options.carry:
            comfyui.import_comfyui()
            command = carry(options.carry, comfyui.folder())
            print(f"Take {options.carry} along; there: sh {command.name} (options as here).")
            return 0
        return check(options, arguments)
    except (FileNotFoundError, ValueError) as error:
        return f"benchmarks gpu: {error}"


def check(options: argparse.Namespace, arguments: Sequence[str]) -> str | int:
    on_gpu = torch.cuda.is_available()
    if not (on_gpu or options.tiny):
        return NO_GPU
    comfyui.import_comfyui(cpu=not on_gpu)
    deterministic.prepare()
    if not on_gpu:
        torch.set_num_threads(1)  # for tensors this small more cost more than they bring
    made = Check(torch.device("cuda:0" if on_gpu else "cpu"), options.tiny, options.budget)
    results = {
        "command": shlex.join(["python", "-m", "benchmarks", "gpu", *arguments]),
        "device": torch.cuda.get_device_name() if on_gpu else "the CPU",
        "small": options.tiny,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"{report.NAME}.md"

    def save(sections: dict[str, dict]) -> None:
        write_json(path.with_suffix(".json"), {**results, "sections": sections})
        path.write_text(report.text({**results, "sections": sections}), encoding="utf-8")

    usual = [each for each in SECTIONS if not (options.tiny and each in costs.LIKE_OTHERS)]
    wanted = [each for each in SECTIONS if each.name in options.only] or usual
    done = made.run(wanted, save)
    print(f"benchmarks gpu: the report is {path}")
    return int(any("failed" in section for section in done.values()))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu",
        description="The pack on one GPU, with models of full size and random weights: no server, no download. A "
        "section that fails or is slow costs no other one.",
    )
    parser.add_argument("--budget", type=float, default=900, help="seconds for everything; the rest is left out")
    parser.add_argument("--only", type=_names, default=(), help="sections by name, separated by commas")
    parser.add_argument(
        "--tiny", action="store_true", help="models of two layers, on the CPU too: tries each piece of code once"
    )
    parser.add_argument("--results", type=Path, default=Path("gpu-out"), help="folder of gpu.md and gpu.json")
    parser.add_argument(
        "--carry", type=Path, metavar="DIR",
        help="runs nothing, but packs into DIR what a machine with nothing but torch needs, and the command there",
    )  # fmt: skip
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    known = [section.name for section in SECTIONS]
    wrong = [name for name in names if name not in known]
    if wrong:
        raise argparse.ArgumentTypeError(f"there is no section '{wrong[0]}': choose {', '.join(known)}")
    return names
