"""Full and read-only disks are told as that, however a library says it."""

import errno
import os

import pytest
from safetensors import SafetensorError

from mixgrpo_engine.records import disk, files, tensor_files
from mixgrpo_engine.records.events import Notice
from mixgrpo_engine.records.run_folder import RunFolder


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error, words",
    [
        (OSError(errno.ENOSPC, "No space left on device", "/runs/a"), "The disk is full (/runs/a): free some space"),
        (OSError(errno.EROFS, "Read-only file system", "/runs/a"), "The disk is read-only (/runs/a): make it writable"),
        (
            SafetensorError('Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No" })'),
            "The disk is full: free",
        ),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "The disk is full: free"),
        (caused(RuntimeError("while saving"), OSError(errno.ENOSPC, "No space")), "The disk is full: free"),
    ],
)
def test_what_libraries_say(error, words):
    assert str(disk.trouble(error)).startswith(words)


def test_torchs_writer_only_says_that_it_could_not(tmp_path, monkeypatch):
    error = RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
    assert disk.trouble(error, tmp_path / "not" / "there") is None
    monkeypatch.setattr(disk, "LITTLE", 2**62)
    told = disk.trouble(error, tmp_path / "not" / "there")
    assert told.errno == errno.ENOSPC and str(told).startswith("The disk is full (")
    assert disk.trouble(RuntimeError("unexpected"), tmp_path) is None


def test_a_missing_permission_is_told_of_what_was_to_be_written_only():
    error = PermissionError(errno.EACCES, "Permission denied", "/models/a")
    assert disk.trouble(error) is None
    assert str(disk.trouble(error, "/runs/a")).startswith("/runs/a can't be written: close what has it open, or give")
    assert disk.trouble(FileNotFoundError(errno.ENOENT, "gone", "/runs/a"), "/runs/a") is None


@pytest.fixture
def full(monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda where, what: monkeypatch.setattr(where, what, fail)


def test_what_cannot_be_written_leaves_nothing_and_what_was_there(tmp_path, full):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})
    full(os, "fsync")
    with pytest.raises(disk.DiskTrouble, match=r"The disk is full \(.*a.json\)"):
        files.write_json(path, {"new": 1})
    assert os.listdir(tmp_path) == ["a.json"] and files.read_json(path) == {"old": 1}
    full(os, "replace")
    with pytest.raises(disk.DiskTrouble):
        tensor_files.save({}, tmp_path / "b.safetensors")
    assert os.listdir(tmp_path) == ["a.json"]


def test_half_an_event_ends_with_its_line(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.emit(Notice(1, "first"))
    with open(folder.events, "a") as log:
        log.write('{"type": "not')  # as much as there was room for

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", full)
        with pytest.raises(disk.DiskTrouble):
            folder.emit(Notice(2, "second"))
    folder.emit(Notice(3, "third"))
    lines = folder.events.read_text().splitlines()
    assert lines[1] == '{"type": "not' and '"third"' in lines[2]


def test_what_a_kill_has_left_is_removed_but_not_what_the_server_writes_now(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    (folder.samples / "group").mkdir()
    left = [".status.json.12.tmp", ".run.safetensors.12.tmp", ".reward.tmp.png", ".tmpsnxRoc",
        "samples/group/.group.json.12.tmp",
        "checkpoints/.000002.tmp", ".job.json.11.tmp"]  # fmt: skip
    for name in left:
        (folder.path / name).touch()
    os.utime(folder.path / ".job.json.11.tmp", (0, 0))
    (folder.path / ".about.json.13.tmp").touch()
    folder.remove_unfinished()
    assert [path.name for path in folder.path.rglob(".*")] == [".about.json.13.tmp"]
