"""Files in other programs' hands, as Windows has them: an antivirus, an indexer, a reader keeps them for a moment."""

import errno
import os
import shutil
import threading

import pytest

from mixgrpo_engine.records import files


@pytest.fixture
def held(monkeypatch):
    """held(module, name, error, times): that function raises the error so many times before it works."""
    monkeypatch.setattr(files, "PATIENCE_SECONDS", 0.5)

    def make(module, name, error, times):
        real, calls = getattr(module, name), []

        def function(*args, **kwargs):
            calls.append(args)
            if len(calls) <= times:
                raise error
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, function)
        return calls

    return make


IN_USE = PermissionError(errno.EACCES, "The process cannot access the file because it is being used")
NOT_EMPTY = OSError(errno.ENOTEMPTY, "The directory is not empty")


@pytest.mark.parametrize("error", [IN_USE, OSError(errno.EBUSY, "Device or resource busy")])
def test_replacing_waits_for_who_has_the_file(tmp_path, held, error):
    calls = held(os, "replace", error, 3)
    files.write_json(tmp_path / "a.json", {"a": 1})
    assert files.read_json(tmp_path / "a.json") == {"a": 1} and len(calls) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("error", [IN_USE, NOT_EMPTY])
def test_removing_a_folder_waits_too(tmp_path, held, error):
    (tmp_path / "a" / "b").mkdir(parents=True)
    held(shutil, "rmtree", error, 3)
    files.remove(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_patience_ends_and_nothing_half_written_stays(tmp_path, held):
    held(os, "replace", IN_USE, 10**6)
    with pytest.raises(OSError, match="a.json can't be written: close what has it open"):
        files.write_json(tmp_path / "a.json", {})
    assert not list(tmp_path.iterdir())


def test_what_does_not_pass_is_told_at_once(tmp_path, held):
    calls = held(os, "replace", OSError(errno.EROFS, "Read-only file system"), 10**6)
    with pytest.raises(OSError, match="read-only"):
        files.write_json(tmp_path / "a.json", {})
    assert len(calls) == 1


def test_removing_what_somebody_else_removes_is_no_error(tmp_path, held):
    (tmp_path / "a").mkdir()
    held(shutil, "rmtree", FileNotFoundError(errno.ENOENT, "gone"), 1)
    files.remove(tmp_path / "a")
    files.remove(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_threads_that_write_the_same_file_do_not_disturb_each_other(tmp_path):
    path, failures, start = tmp_path / "a.json", [], threading.Barrier(4)

    def write(number):
        start.wait()
        try:
            for _ in range(50):
                files.write_json(path, {"number": number})
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and files.read_json(path)["number"] in range(4)
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
