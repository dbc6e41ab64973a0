"""Strict algorithms: on for a training, off after it, and an operation that has none is named."""

import os

import pytest
import torch

from mixgrpo_engine import deterministic


@pytest.mark.parametrize("wanted", [False, True])
def test_a_training_computes_by_strict_algorithms_if_asked_to(toy, tmp_path, wanted):
    trainer, seen = toy.make(tmp_path, toy.config(run={"iterations": 1, "deterministic": wanted})), set()
    trainer.policy.module.register_forward_hook(
        lambda *_: seen.add((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic))
    )
    assert trainer.run() == "finished" and seen == {(wanted, wanted)}
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic


def test_an_operation_without_a_strict_algorithm_ends_the_run_and_is_named(toy, tmp_path):
    trainer = toy.make(tmp_path, toy.config(run={"deterministic": True}))
    trainer.policy.module.register_forward_hook(
        lambda *_: torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))  # has none on any device
    )
    with pytest.raises(RuntimeError, match=r"^The operation put_ has no deterministic form .*: switch deterministic"):
        trainer.run()
    assert not torch.are_deterministic_algorithms_enabled()


def test_cublas_is_told_before_cuda_starts_unless_the_user_has(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    deterministic.prepare()
    assert os.environ == {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
    deterministic.prepare()
    assert os.environ == {"CUBLAS_WORKSPACE_CONFIG": ":16:8"}
