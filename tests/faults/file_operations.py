"""Counts what a process does to the files of a folder, and strikes at one of these operations.

Written for processes that are thrown away afterwards: nothing is put back.
"""

import builtins
import errno
import io
import os
from pathlib import Path

import safetensors.torch
import torch

CHANGES = ("replace", "rename", "unlink", "remove", "mkdir", "rmdir", "fsync")


class Operations:
    """strike(): called at operation number `at` (and at all later ones that come to it); 0: never."""

    def __init__(self, folder, at, strike):
        self.folder, self.at, self.strike = str(Path(folder)), at, strike
        self.count = 0

    def watch(self):
        for name in CHANGES:
            setattr(os, name, self._counted(getattr(os, name), name))
        builtins.open = io.open = self._open(builtins.open)
        for module, name in ((torch, "save"), (safetensors.torch, "save_file")):
            setattr(module, name, self._torn(getattr(module, name)))
        # Who has imported it by its name.
        from mixgrpo_engine.training import checkpoint

        checkpoint.save_file = safetensors.torch.save_file

    def reached(self):
        """Whether this operation is one to strike at."""
        self.count += 1
        return bool(self.at) and self.count >= self.at

    def _inside(self, path):
        try:
            return str(path).startswith(self.folder)
        except Exception:
            return False

    def _counted(self, function, name):
        def counted(path, *args, **kwargs):
            # What is relative to an open folder (rmtree) belongs to it as far as anybody can tell.
            inside = name == "fsync" or "dir_fd" in kwargs or self._inside(path)
            if inside and self.reached():
                self.strike()
            return function(path, *args, **kwargs)

        return counted

    def _open(self, function):
        def opened(path, mode="r", *args, **kwargs):
            if not isinstance(path, (str, os.PathLike)) or not self._inside(path) or not set(mode) & set("wax+"):
                return function(path, mode, *args, **kwargs)
            if self.reached():
                self.strike()
            return _Torn(function(path, mode, *args, **kwargs), self)

        return opened

    def _torn(self, function):
        def torn(value, path, *args, **kwargs):
            done = function(value, path, *args, **kwargs)
            if isinstance(path, (str, os.PathLike)) and self._inside(path) and self.reached():
                os.truncate(path, os.path.getsize(path) // 2)
                self.strike()
            return done

        return torn


class _Torn:
    """An open file of which a write may come to the disk by half; json writes it in many pieces, which count as one."""

    def __init__(self, file, operations):
        self._file, self._operations, self._counted = file, operations, False

    def write(self, data):
        first, self._counted = not self._counted, True
        if first and self._operations.reached():
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            self._operations.strike()
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *args):
        return self._file.__exit__(*args)

    def __iter__(self):
        return iter(self._file)


def kill():
    os._exit(9)


def disk_is_full():
    raise OSError(errno.ENOSPC, "No space left on device")


def disk_is_read_only():
    raise OSError(errno.EROFS, "Read-only file system")
