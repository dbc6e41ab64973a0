"""A lock for each device: trainings on different ones don't wait for each other."""

import importlib.metadata

import pytest


@pytest.fixture
def device(room, monkeypatch):
    """device(build, arguments, environment): (its name, the path of its lock)."""
    import comfy.cli_args

    compat, gpu_lock = room("nodes.worker.compat"), room("nodes.worker.gpu_lock")

    def make(build="2.9.0", environment=(), **arguments):
        with monkeypatch.context() as patch:
            for name, value in {"cpu": False, "directml": None, **arguments}.items():
                patch.setattr(comfy.cli_args.args, name, value)
            for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ONEAPI_DEVICE_SELECTOR", "ZE_AFFINITY_MASK"):
                patch.delenv(name, raising=False)
            for name, value in dict(environment).items():
                patch.setenv(name, value)
            patch.setattr(importlib.metadata, "version", lambda _: build)
            gpu = compat.gpu()
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
