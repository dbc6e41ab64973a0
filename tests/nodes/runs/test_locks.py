"""A look at a lock disturbs nobody."""

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
