"""Batch sizes that give way when memory runs out. The error is made here: a CPU never raises it."""

from types import SimpleNamespace

import pytest
import torch

from mixgrpo_engine.memory.micro_batches import BatchSize, OutOfMemory, is_out_of_memory


def fits(limit, calls):
    def work(size):
        calls.append(size)
        if (size or 48) > limit:
            raise OutOfMemory("too many")
        return f"done with {size}"

    return work


def test_all_at_once_when_it_fits():
    calls, notices = [], []
    batch = BatchSize(0, "rollout_batch_size", notices.append)
    assert batch.run(fits(48, calls), 48) == "done with 0" and calls == [0] and notices == []


def test_halves_until_it_fits_and_keeps_what_worked():
    calls, notices = [], []
    batch = BatchSize(0, "rollout_batch_size", notices.append)
    assert batch.run(fits(13, calls), 48) == "done with 12"
    assert batch.run(fits(13, calls), 48) == "done with 12"
    assert calls == [0, 24, 12, 12]
    assert "Out of memory with 24 images" in notices[1] and "Set rollout_batch_size to 12" in notices[1]


def test_a_setting_above_the_count_counts_as_the_count():
    calls = []
    assert BatchSize(100, "x", [].append).run(lambda size: fits(30, calls)(min(size, 48)), 48) == "done with 24"


@pytest.mark.parametrize(
    "words",
    [
        "MPS backend out of memory (MPS allocated: 5.56 GB, other allocations: 1.10 GB, max allowed: 6.80 GB).",
        "Could not allocate tensor with 134217728 bytes. There is not enough GPU video memory available!",
        "[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: you tried to allocate.",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    ],
)
def test_devices_that_say_it_in_words_halve_too(words):
    calls = []

    def work(size):
        calls.append(size)
        if (size or 48) > 13:
            raise RuntimeError(words)
        return f"done with {size}"

    assert BatchSize(0, "x", [].append).run(work, 48) == "done with 12"
    assert calls == [0, 24, 12]


def test_memory_is_given_back_before_the_next_try(monkeypatch):
    given = []
    for name in ("cuda", "xpu", "mps"):

        def owed_error():
            raise RuntimeError("CUDA error: out of memory")

        device = SimpleNamespace(is_available=lambda: True, empty_cache=lambda name=name: given.append(name))
        device.synchronize = owed_error
        monkeypatch.setattr(torch, name, device)
    monkeypatch.delattr(torch, "xpu")  # as in older versions
    BatchSize(0, "x", [].append).run(fits(24, []), 48)
    assert given == ["cuda", "mps"]


def test_one_image_too_many_is_the_end():
    with pytest.raises(OutOfMemory):
        BatchSize(0, "x", [].append).run(fits(0, []), 4)


def test_other_errors_pass():
    def broken(size):
        raise RuntimeError("Out of memory in the reward 'a' with 4 images (MPS backend out of memory)")

    with pytest.raises(RuntimeError, match="in the reward"):
        BatchSize(0, "x", [].append).run(broken, 4)
    assert torch.cuda.OutOfMemoryError is OutOfMemory


def test_an_error_of_the_device_is_one_of_memory_by_its_code_or_its_words():
    def error(words, code):
        made = torch.AcceleratorError(words)
        made.error_code = code
        return made

    for words, code in (("HIP error: something", 2), ("CUDA error: Out of memory", 1)):
        assert is_out_of_memory(error(words, code))
    assert not is_out_of_memory(error("CUDA error: device-side assert triggered", 710))
