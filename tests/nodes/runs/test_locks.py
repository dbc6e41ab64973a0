"""Locks of files: one holder, and a look at a lock that disturbs nobody."""

import pytest


def test_two_holders_of_a_lock_are_never_there_at_once(runs, tmp_path):
    first, second = runs.locks.FileLock(tmp_path / "l"), runs.locks.FileLock(tmp_path / "l")
    assert first.acquire() and not second.acquire()
    assert runs.locks.is_taken(tmp_path / "l")
    with pytest.raises(TimeoutError, match="another process holds it"):
        second.hold(0.2)
    first.release()
    assert second.acquire()
    second.release()
    assert not runs.locks.is_taken(tmp_path / "l")
    assert not runs.locks.is_taken(tmp_path / "never made") and not (tmp_path / "never made").exists()


def test_probe_does_not_see_another_probe_but_an_error(runs, tmp_path, monkeypatch):
    import errno
    import fcntl

    with open(tmp_path / "l", "w") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not runs.locks.is_taken(tmp_path / "l")
        assert not runs.locks.FileLock(tmp_path / "l").acquire()

    def broken(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", broken)
    for attempt in (lambda: runs.locks.is_taken(tmp_path / "l"), runs.locks.FileLock(tmp_path / "l").acquire):
        with pytest.raises(OSError, match=f"can't be locked: No locks available.*{tmp_path}/l"):
            attempt()
