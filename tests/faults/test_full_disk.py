"""A disk that really is full or read-only: a small one in memory, where this process may mount one."""

import subprocess

import pytest

from mixgrpo_engine.records import disk


@pytest.fixture
def mount(tmp_path):
    """Mounts a file system of so many kilobytes; its folder, and a function that mounts it again with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def again(options):
        subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)

    mounted = []

    def make(kilobytes):
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", place]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("this process may not mount a file system")
        mounted.append(place)
        return place, again

    yield make
    for each in mounted:
        subprocess.run(["umount", "-l", each], check=True)


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def lora(toy, trainer):
    return {name: value.tolist() for name, value in toy.adapter(trainer).items()}


@pytest.mark.parametrize("kilobytes", [16, 40, 72, 100])
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(toy, tmp_path, mount, kilobytes):
    whole = toy.make(tmp_path / "whole" / "run")
    whole.run()
    place, again = mount(kilobytes)
    with pytest.raises(Exception) as error:  # noqa: B017, PT011 - what it is told as counts
        toy.make(place / "run").run()
    told = disk.trouble(error.value)
    assert told and str(told).startswith("The disk is full") and "free some space" in str(told)
    assert not list(place.rglob("*.tmp*"))
    again("size=4m")
    resumed = toy.make(place / "run")
    assert resumed.run() == "finished"
    assert lora(toy, resumed) == lora(toy, whole)
    assert {name for name in files(place / "run") if "group" not in name} <= files(tmp_path / "whole" / "run")


def test_a_read_only_disk_is_named(toy, tmp_path, mount):
    place, again = mount(4096)
    trainer = toy.make(place / "run")
    trainer.pulse.should_stop = lambda: trainer.iteration >= 3
    assert trainer.run() == "cancelled"
    again("ro")
    with pytest.raises(OSError, match="Read-only|read-only"):
        toy.make(place / "run").run()
    again("rw")
    assert toy.make(place / "run").run() == "finished"
