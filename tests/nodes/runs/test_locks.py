"""A look at a lock disturbs nobody."""

import errno
import os
import threading

import pytest
from filelock import FileLock, Timeout


def test_a_held_lock_is_taken_and_a_released_or_missing_one_is_not(runs, tmp_path):
    path = tmp_path / "l"
    assert not runs.locks.is_taken(path) and not path.exists()
    with FileLock(path):
        assert runs.locks.is_taken(path)
        with pytest.raises(Timeout):
            FileLock(path, timeout=0).acquire()
    assert not runs.locks.is_taken(path)


def test_a_look_shares_the_lock_and_needs_no_right_to_write(runs, tmp_path, monkeypatch):
    path = tmp_path / "l"
    path.touch()
    opened, real = [], os.open

    def watched(name, flags, *args, **kwargs):
        opened.append(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        return real(name, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", watched)
    with open(path) as other:
        assert runs.locks._share(other.fileno())
        assert not runs.locks.is_taken(path)
    assert opened == [0]  # on a read-only disk a lock can be looked at, too


@pytest.mark.skipif(os.name == "nt", reason="Windows follows links")
def test_a_link_in_the_place_of_a_lock_is_not_followed(runs, tmp_path):
    (tmp_path / "elsewhere").touch()
    (tmp_path / "l").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        runs.locks.is_taken(tmp_path / "l")


def test_where_files_cannot_be_locked_filelock_is_asked(runs, tmp_path, monkeypatch):
    def no_locks(_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(runs.locks, "_share", no_locks)
    with FileLock(tmp_path / "l"):
        assert runs.locks.is_taken(tmp_path / "l")
    assert not runs.locks.is_taken(tmp_path / "l")


def test_many_who_look_at_once_do_not_take_each_other_for_the_holder(runs, tmp_path):
    path, start, seen = tmp_path / "l", threading.Barrier(4), []
    path.touch()

    def look():
        start.wait()
        seen.extend(runs.locks.is_taken(path) for _ in range(10))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [False] * 40


def test_a_submission_that_gets_no_lock_says_so(runs, monkeypatch):
    monkeypatch.setattr(runs.submit, "LOCK_SECONDS", 0.1)
    folder = runs.paths.runs_directory()
    folder.mkdir(parents=True, exist_ok=True)
    told = pytest.raises(TimeoutError, match="another process holds it. Try again")
    with FileLock(folder / ".submit.lock"), told, runs.submit.lock():
        raise AssertionError("two holders")
