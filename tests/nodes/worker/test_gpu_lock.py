"""A lock for each device: trainings on different ones don't wait for each other."""

import importlib.metadata

import filelock
import pytest


@pytest.fixture
def device(room, monkeypatch):
    """device(build, arguments, environment): (its name, the path of its lock)."""
    import comfy.cli_args

    compat, gpu_lock = room("nodes.worker.compat"), room("nodes.worker.gpu_lock")

    def make(build="2.9.0", environment=(), count=1, **arguments):
        with monkeypatch.context() as patch:
            for name, value in {"cpu": False, "directml": None, **arguments}.items():
                patch.setattr(comfy.cli_args.args, name, value)
            for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ONEAPI_DEVICE_SELECTOR", "ZE_AFFINITY_MASK"):
                patch.delenv(name, raising=False)
            for name, value in dict(environment).items():
                patch.setenv(name, value)
            patch.setattr(importlib.metadata, "version", lambda _: build)
            gpu = ",".join(compat.gpus(count))
        return gpu, gpu_lock._default_path(gpu).name

    return make


def test_the_cpu_is_no_device(device):
    assert device(cpu=True)[0] == ""


def test_devices_have_locks_of_their_own(device):
    others = [
        device(environment={"CUDA_VISIBLE_DEVICES": "1,0"}),
        device(environment={"HIP_VISIBLE_DEVICES": "2"}),
        device("2.9.0+xpu"),
        device("2.9.0+xpu", {"ONEAPI_DEVICE_SELECTOR": "level_zero:1"}),
        device(directml=-1),
        device(directml=1),
    ]
    names = ["1", "2", "xpu:0", "xpu:level_zero:1", "directml:0", "directml:1"]
    assert [name for name, _ in others] == names
    assert len({path for _, path in [device(), *others]}) == len(others) + 1


def test_the_first_gpu_is_the_same_however_it_is_chosen(device):
    first = device()
    assert first == device("2.9.0+cu130", {"CUDA_VISIBLE_DEVICES": "0"}) == device("2.9.0+rocm6.4")
    assert device(directml=-1) == device(directml=0)
    # Other versions of the pack take the same lock.
    assert first[1] == "mixgrpo-gpu-5feceb66ffc8.lock"


def test_a_training_in_several_processes_takes_all_its_gpus(device):
    assert device(count=3)[0] == "0,1,2"
    assert device(count=2, environment={"CUDA_VISIBLE_DEVICES": "3, 1,0"})[0] == "3,1"
    assert device("2.9.0+xpu", count=2)[0] == "xpu:0,xpu:1"


def test_it_waits_until_all_are_free(room, tmp_path, monkeypatch):
    gpu_lock = room("nodes.worker.gpu_lock")
    monkeypatch.setattr(gpu_lock, "_default_path", lambda gpu: tmp_path / gpu)
    monkeypatch.setattr(gpu_lock, "_held", [])
    monkeypatch.delenv(gpu_lock.FORCE_VARIABLE, raising=False)
    stages, others = [], filelock.FileLock(tmp_path / "1", is_singleton=False)
    others.acquire()

    class Stop:
        def check(self):
            assert stages == ["waiting"] and not gpu_lock._held[1].is_locked
            others.release()

    class Reporter:
        def emit(self, event):
            stages.append(event.name)

    gpu_lock.take(["1", "0"], Reporter(), Stop())
    assert [lock.is_locked for lock in gpu_lock._held] == [True, True] and stages == ["waiting", "boot"]
    for lock in gpu_lock._held:
        lock.release()
