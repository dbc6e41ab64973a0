"""Whether a GPU trains what the CPU's tests have pinned: gradients, resumes, every family."""

from __future__ import annotations

from pathlib import Path

import torch

from mixgrpo_engine.config import AdapterConfig
from mixgrpo_engine.deterministic import same_bits
from tests.nodes import tiny_models

from ..comfyui import node_module
from ..model_call import model_call
from ..subject import Subject
from . import trained
from .check import Check, section


@section(20)
def gradient_to_float32(check: Check) -> dict:
    """SD3.5 medium's gradients in bf16 (and with an fp8 base) against those of the same weights in float32."""
    gradients = {}
    for dtype in ("float32", "bf16", "fp8"):
        policy = trained.subject(check, f"sd3.5_medium {dtype}").policy(trained.settings(check, 256))
        trained.stir(policy)
        model_call(policy, 2, gradient=True)()
        gradients[dtype] = trained.gradient(policy)
    exact = gradients.pop("float32")
    return {
        "against float32": [
            {
                "dtype": dtype,
                "1 - cosine": 1 - float(torch.cosine_similarity(found.double(), exact.double(), dim=0)),
                "norm": float(found.norm() / exact.norm()),
            }
            for dtype, found in gradients.items()
        ]
    }


@section(60)
def resume(check: Check) -> dict:
    """Two equal runs, and one that is ended and resumed: equal bits? As it is, and by deterministic algorithms."""
    subject, rows = trained.subject(check), []
    for strict in (False, True):
        try:
            rows.append({"deterministic": strict, **_runs(check, subject, strict)})
        except RuntimeError as error:  # torch names the operation that has no deterministic form
            rows.append({"deterministic": strict, "failed": str(error)})
    return {"runs": rows}


def _runs(check: Check, subject: Subject, strict: bool) -> dict:
    with same_bits(strict):
        whole, again = (_train(check, subject, 2, check.folder()) for _ in range(2))
        folder = check.folder()
        _train(check, subject, 1, folder)
        resumed = _train(check, subject, 2, folder)
    return {
        "two runs equal": torch.equal(whole, again),
        "difference": trained.difference(again, whole),
        "resumed equal": torch.equal(whole, resumed),
        "difference of resumed": trained.difference(resumed, whole),
    }


def _train(check: Check, subject: Subject, iterations: int, folder: Path) -> torch.Tensor:
    """The adapter after so many iterations of a run, which goes on where the folder holds one."""
    run = {"iterations": iterations, "checkpoint_every": 1}
    rollout, optimizer = {"steps": 5, "group_size": 2}, {"learning_rate": 1e-4, "updates": 1}
    config = trained.settings(check, 256, run=run, rollout=rollout, optimizer=optimizer)
    trainer = trained.trainer(check, subject, config, folder)
    trainer.run()
    return torch.cat([tensor.detach().flatten().cpu() for tensor in trainer.policy.adapter_state().values()])


@section(25)
def families(check: Check) -> dict:
    """A tiny random model of each family: gradients with and without checkpointing, a batch against its first image."""
    rows = []
    # On the CPU the tests have all of them.
    for name, family in [*tiny_models.FAMILIES.items()][: 2 if check.small else None]:
        try:
            rows.append({"family": name, **_family(check, family)})
        except Exception as error:  # one family's failure is its own
            rows.append({"family": name, "failed": f"{type(error).__name__}: {error}"[:300]})
            check.say(f"  {rows[-1]}")
    return {"families": rows}


def _family(check: Check, family: tiny_models.Family) -> dict:
    model = family.build(dtype=torch.float32 if check.device.type == "cpu" else torch.bfloat16)
    vae = tiny_models.vae(model.model.latent_format.latent_channels)
    encoded = node_module("model.conditioning").Encoded({"": family.prompt(1)})
    size, gradients = family.size // 2 if check.small else family.size, {}
    for checkpointing in (False, True):
        policy = node_module("model.policy").ComfyPolicy(
            model, vae, encoded, width=size, height=size, adapter=AdapterConfig(rank=4), seed=0,
            gradient_checkpointing=checkpointing,
        )  # fmt: skip
        trained.stir(policy, 0.05)
        model_call(policy, 2, gradient=True)()
        gradients[checkpointing] = trained.gradient(policy)
    latents = policy.noise([1, 2])
    with torch.no_grad():
        pair, alone = (policy.module(latents[:n], 0.7, policy.condition([""] * n)) for n in (2, 1))
    return {
        "device": str(pair.device),
        "finite": bool(gradients[True].isfinite().all()),
        "checkpointed / plain gradient": trained.difference(gradients[True], gradients[False]),
        "in a batch / alone": trained.difference(pair[:1], alone),
    }
