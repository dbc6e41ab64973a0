"""What calls and iterations cost at full size: seconds, and bytes against the estimate."""

from __future__ import annotations

import time

import torch

from ..measured_bytes import measured_peak
from ..model_call import model_call
from ..subject import Subject
from ..variants import DANCE_GRPO, FLASH, FLASH_STAR, FLOW_GRPO, MIX_GRPO, Variant
from . import trained
from .check import Check, Section, section

GB = 2**30
START = 5  # of the window: the middle of the paper's 0 to 11


def costs(name: str, pixels: int, seconds: float, algorithms: tuple[Variant, ...] = (), images=(1, 3, 12)) -> Section:
    """A section for a model of full_size: its calls, and an iteration of each algorithm, the cheapest first."""

    def run(check: Check) -> dict:
        subject = trained.subject(check, name)
        started = time.perf_counter()
        report = subject.preflight().report(trained.settings(check, pixels))
        figures = {
            "weights GB": subject.model.model_size() / GB,
            "estimate": report.sentence(),
            "estimate seconds": time.perf_counter() - started,
        }
        policy = subject.policy(trained.settings(check, pixels))
        figures["calls"] = _calls(check, policy, report.needs, images[:2] if check.small else images)
        del policy
        if algorithms:
            sizes = _sizes(report.plan)
            figures["ratio before the first update"] = ratio(check, subject, pixels, sizes)
            figures["iterations"] = _iterations(check, subject, pixels, sizes, algorithms)
        return figures

    words = f"{name} at {pixels} pixels"
    run.__doc__ = f"{words}: model calls, bytes against the estimate{', iterations' if algorithms else ''}."
    return Section(f"{words.replace(' pixels', '').replace(' at', '').replace(' ', '_')}", seconds, run)


def _calls(check: Check, policy, needs, images: tuple[int, ...]) -> list[dict]:
    model_call(policy, 1, gradient=True)()  # makes the gradients, which are counted with the adapter
    rows = []
    for count in images:
        forward, update = (model_call(policy, count, gradient) for gradient in (False, True))
        row = {"images": count, "forward s": check.seconds(forward)}
        with policy.base():
            row["without LoRA s"] = check.seconds(forward)
        row["forward and backward s"] = check.seconds(update)
        for phase, call, line in (("rollout", forward, needs.rollout), ("update", update, needs.update)):
            measured = measured_peak(call, check.device)
            row |= {f"{phase} GB": measured / GB, f"{phase} estimate / measured": line.of(count) / measured}
        rows.append(row)
        check.say(f"  {row}")
    return rows


def _sizes(plan) -> dict[str, dict]:
    """Batch sizes of a plan as settings: those of MixGRPO's iteration, for all algorithms."""
    return {"rollout": {"batch_size": plan.rollout_batch}, "optimizer": {"batch_size": plan.update_batch}}


def ratio(check: Check, subject: Subject, pixels: int, sizes: dict[str, dict]) -> dict:
    """mean |ratio - 1| of an update's images before any step, and the share of them outside clip_range."""
    shorter = {
        "rollout": {**sizes["rollout"], "steps": 8, "group_size": 4}, "optimizer": {**sizes["optimizer"], "updates": 1}
    }  # fmt: skip
    config = trained.settings(check, pixels, **shorter)
    event, _ = trained.step(trained.trainer(check, subject, config))
    return {
        "mean |ratio - 1|": event.ratio_deviation,
        "of clip_range": event.ratio_deviation / config.loss.clip_range,
        "clipped": event.clip_fraction,
    }


def _iterations(
    check: Check, subject: Subject, pixels: int, sizes: dict[str, dict], algorithms: tuple[Variant, ...]
) -> list[dict]:
    rows, last = [], 0.0
    for variant in algorithms:
        if check.left() < 2 * last:  # each takes about twice as long as the one before
            rows.append({"algorithm": variant.name, "left out": f"{check.left():.0f} s are left"})
            continue
        trainer = trained.trainer(check, subject, trained.settings(check, pixels, variant, **sizes))
        trainer.iteration = START
        if check.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(check.device)
        event, last = trained.step(trainer)
        rows.append(
            {
                "algorithm": variant.name,
                "seconds": last,
                **{phase: event.seconds[phase] for phase in ("rollout", "score", "update")},
                "image-forwards": event.forwards,
                "peak GB": torch.cuda.max_memory_allocated(check.device) / GB if check.device.type == "cuda" else None,
                "notices": trained.notices(trainer),
            }
        )
        check.say(f"  {rows[-1]}")
    reference = next((row["seconds"] for row in rows if row["algorithm"] == DANCE_GRPO.name and "seconds" in row), None)
    for row in rows:
        if reference and "seconds" in row:
            row["of DanceGRPO"] = row["seconds"] / reference
    return rows


ALL = (FLASH_STAR, FLASH, MIX_GRPO, DANCE_GRPO, FLOW_GRPO)
SD35, SD35_FP8 = (costs(f"sd3.5_medium {dtype}", 512, seconds, given) for dtype, seconds, given in
                  (("bf16", 60, ALL), ("fp8", 20, (FLASH_STAR,))))  # fmt: skip
FLUX_NAME = "flux1-dev bf16"
FLUX = costs(FLUX_NAME, 512, 85, (FLASH_STAR, FLASH, MIX_GRPO))
FLUX_FP8 = costs("flux1-dev fp8", 512, 40, (FLASH_STAR,))
SD35_1024, SD35_FP8_1024 = (costs(f"sd3.5_medium {dtype}", 1024, 20, images=(1, 3)) for dtype in ("bf16", "fp8"))
FLUX_1024, FLUX_FP8_1024 = (costs(f"flux1-dev {dtype}", 1024, 30, images=(1, 3)) for dtype in ("bf16", "fp8"))

LIKE_OTHERS = (FLUX, SD35_1024, FLUX_1024, FLUX_FP8_1024, SD35_FP8, SD35_FP8_1024)  # but for sizes and seconds


@section(150)
def flux_512_slow(check: Check) -> dict:
    """The two algorithms that take longest, on flux1-dev bf16 at 512 pixels."""
    subject = trained.subject(check, FLUX_NAME)
    sizes = _sizes(subject.preflight().report(trained.settings(check)).plan)
    return {"iterations": _iterations(check, subject, 512, sizes, (DANCE_GRPO, FLOW_GRPO))}


@section(10)
def machine(check: Check) -> dict:
    """What it runs on: versions, memory, matrix products and copies."""
    from .. import machine

    figures: dict = dict(machine.describe())
    if check.device.type == "cuda":
        figures |= {
            "GPU": torch.cuda.get_device_name(check.device),
            "free GB": torch.cuda.mem_get_info(check.device)[0] / GB,
            "allocator": torch.cuda.get_allocator_backend(),
        }
    side = 256 if check.small else 8192
    one, other = (torch.randn(side, side, device=check.device, dtype=torch.bfloat16) for _ in range(2))
    figures["bf16 TFLOP/s"] = 2 * side**3 / check.seconds(lambda: one @ other) / 1e12
    copied = torch.empty_like(one)
    figures["copy TB/s"] = 2 * one.nbytes / check.seconds(lambda: copied.copy_(one)) / 1e12
    return figures
