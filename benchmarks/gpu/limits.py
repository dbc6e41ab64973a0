"""What happens at the limits: memory that runs out, waits for the GPU, settings that trade one for another."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator

import psutil
import torch

from mixgrpo_engine.training.compiled_blocks import CompiledBlocks

from ..measured_bytes import measured_peak
from ..model_call import model_call
from . import trained
from .check import Check, section
from .costs import GB

FITTING = 4  # images a call that there is room for


@section(25)
def out_of_memory(check: Check) -> dict:
    """SD3.5 medium where memory runs out in an iteration: calls are halved, and the gradient is that of small calls."""
    subject, rows, gradients = trained.subject(check), [], []
    for batch, scarce in ((2, False), (0, True)):
        sizes = {"rollout": {"batch_size": batch}, "optimizer": {"batch_size": batch, "updates": 1}}
        trainer = trained.trainer(check, subject, trained.settings(check, 512, **sizes))
        kept = trainer.optimizer.step
        trainer.optimizer.step = lambda policy=trainer.policy, step=kept: (
            gradients.append(trained.gradient(policy)), step()
        )  # fmt: skip
        with shortage(check, trainer.policy) if scarce else contextlib.nullcontext():
            _, seconds = trained.step(trainer)
        row = {"images a call": batch or "all, until memory runs out", "seconds": seconds}
        rows.append({**row, "notices": trained.notices(trainer)})
    return {"runs": rows, "relative difference of the gradients": trained.difference(gradients[1], gradients[0])}


@contextlib.contextmanager
def shortage(check: Check, policy) -> Iterator[None]:
    """Inside it there is memory for calls of FITTING images with gradient; on the CPU larger ones raise the error."""
    if check.device.type == "cuda":
        needed = measured_peak(model_call(policy, FITTING, gradient=True), check.device)
        policy.module.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        free = torch.cuda.mem_get_info(check.device)[0]
        ballast = torch.empty(max(0, free - int(1.1 * needed) - GB // 2), dtype=torch.uint8, device=check.device)
        yield
        del ballast
        return

    def refuse(_module: object, args: tuple) -> None:
        if len(args[0]) > FITTING // 2 and torch.is_grad_enabled():
            raise torch.cuda.OutOfMemoryError("No memory left, pretended.")

    hook = policy.module.model.diffusion_model.register_forward_pre_hook(refuse)
    yield
    hook.remove()


@section(15)
def waits(check: Check) -> dict:
    """Where SD3.5 medium's rollout, and a whole iteration, stand still until the GPU has done its work."""
    if check.device.type != "cuda":
        return {"note": "Only a GPU can tell; the tests count the waits of a pretended one (tests/pretended_gpu.py)."}
    trainer = trained.trainer(check, trained.subject(check), trained.settings(check))
    trained.step(trainer)
    with counted_waits() as rollout:
        trainer.sampler.rollout(1, trainer.window.at(1), trained.PROMPTS[:1])
    with counted_waits() as iteration:
        trained.step(trainer)
    return {
        "rollout": sum(rollout.values()),
        "rollout steps": trainer.config.rollout.steps,
        "iteration": sum(iteration.values()),
        "updates": trainer.config.optimizer.updates,
        "places": [{"line": line, "waits": count} for line, count in iteration.most_common(20)],
    }


@contextlib.contextmanager
def counted_waits() -> Iterator[Counter[str]]:
    """The counter holds how often each line of code has waited, when it is left."""
    found: Counter[str] = Counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found.update(f"{each.filename}:{each.lineno}" for each in caught if "synchroniz" in str(each.message))


# Settings of a run that trade seconds for bytes or bits: name -> (model, values that are compared).
SWITCHES: dict[str, tuple[str, tuple]] = {
    "gradient_checkpointing": ("sd3.5_medium bf16", (True, False)),
    "swapped_blocks": ("sd3.5_medium bf16", (0, 12)),
    "compile_blocks": ("sd3.5_medium bf16", (False, True)),
}


@section(40)
def switches(check: Check) -> dict:
    """Settings that trade seconds for bytes: both, and whether the gradient stays the same."""
    rows = []
    for name, (model, values) in SWITCHES.items():
        if name == "compile_blocks" and check.small:
            continue  # the compiler takes longer than all the rest
        subject, before = trained.subject(check, model), None
        for value in values:
            policy = subject.policy(trained.settings(check, run={name: value}))
            trained.stir(policy)
            call = model_call(policy, 2, gradient=True)
            call()
            if name == "compile_blocks" and value:
                CompiledBlocks(policy.module).compile(call)
                policy.module.zero_grad()
                call()
            found = trained.gradient(policy)
            rows.append(
                {
                    "setting": f"{name} {value}",
                    "model": model,
                    "forward and backward s": check.seconds(call),
                    "GB": measured_peak(call, check.device) / GB,
                    "difference of the gradient": 0.0 if before is None else trained.difference(found, before),
                }
            )
            before = found
    return {"settings": rows}


@section(20)
def from_host_memory(check: Check) -> dict:
    """SD3.5 medium as a worker gets it: the shared MODEL waits on the CPU. What the policy's copy costs there."""
    subject = trained.subject(check, offload=torch.device("cpu"))
    process = psutil.Process()
    before = process.memory_info().rss
    policies: list = []
    seconds = check.seconds(lambda: policies.append(subject.policy(trained.settings(check))) or policies.pop())
    policy = subject.policy(trained.settings(check))
    return {
        "seconds": seconds,
        "weights GB": subject.model.model_size() / GB,
        "growth of host memory GB": (process.memory_info().rss - before) / GB,
        "the shared MODEL is on": str(next(subject.model.model.parameters()).device),
        "the policy is on": str(next(policy.module.parameters()).device),
    }
