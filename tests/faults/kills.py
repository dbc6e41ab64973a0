"""Kills a small training again and again, fills its disk, and checks that nothing is lost and nothing left over.

Every run is trained to its end afterwards: its last and its best LoRA must be those of a run that nobody disturbed, bit
for bit, and no file may be there that isn't there otherwise. Where it runs each training is a fork of this process, so
that torch is imported once: Linux and macOS.
"""

import importlib.util
import os
import random
import shutil
import signal
import time
import traceback
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from safetensors import safe_open

from mixgrpo_engine.records import disk, run_status
from tests.faults.file_operations import Operations, disk_is_full, disk_is_read_only, kill

SEED = 14
FINISHED, TOLD = 0, 3
"""Exit codes of a training: at its end, and ended by an error that names the disk."""

_spec = importlib.util.spec_from_file_location("toy", Path(__file__).parent.parent / "engine" / "toy.py")
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)


class Disturbed(AssertionError):
    """What a disturbance has changed that must stay as it is."""


def train(folder, at=0, strike=kill):
    """Trains in a process of its own: (its pid, a pipe that tells the operations it has counted)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    code = 1
    try:
        torch.manual_seed(random.SystemRandom().getrandbits(32))  # as another process has it
        operations = Operations(folder, at, strike)
        operations.watch()
        code = _train(folder)
        os.write(write, str(operations.count).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _train(folder):
    # All that a checkpoint can hold: the average of the adapter, and DiffusionNFT's old policy.
    settings = toy.config(
        run={"evaluate_every": 4, "checkpoint_every": 2},
        optimizer={"ema_decay": 0.9},
        rollout={"shared_noise": False},
        loss={"surrogate": "nft"},
    )
    try:
        trainer = toy.make(folder, settings)

        def tell(event):
            trainer.folder.emit(event)
            if fields := run_status.fields_of(event, trainer.folder.status()):
                trainer.folder.set_status(**fields)

        trainer.emit = trainer.pulse.emit = tell
        trainer.run()
        return FINISHED
    except Exception as error:
        if disk.trouble(error) is None:
            raise
        return TOLD


def ended(pid, read):
    """(exit code, negative for a signal, and the operations that were counted, 0 for who couldn't tell)"""
    _, status = os.waitpid(pid, 0)
    with os.fdopen(read) as pipe:
        counted = pipe.read()
    return os.waitstatus_to_exitcode(status), int(counted or 0)


class Check:
    """The undisturbed run, and what others must be like."""

    def __init__(self, place):
        self.place = place
        _train(place / "first" / "run")  # here: what torch imports at its first use is there in all forks
        self.whole = place / "whole" / "run"
        started = time.monotonic()
        code, self.operations = ended(*train(self.whole))
        self.seconds = time.monotonic() - started
        if code:
            raise Disturbed(f"The undisturbed run ended with code {code}.")

    def new(self):
        folder = self.place / "disturbed" / "run"  # of the same name: a LoRA tells it
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def finish(self, folder, what):
        """Trains to the end, undisturbed, and compares."""
        code, _ = ended(*train(folder))
        if code != FINISHED:
            raise Disturbed(f"{what}: the run that goes on ended with code {code}.")
        for name in ("run.safetensors", "run-best.safetensors"):
            if not same(folder / name, self.whole / name):
                raise Disturbed(f"{what}: {name} isn't that of the undisturbed run.")
        if left := files(folder) - files(self.whole):
            raise Disturbed(f"{what}: left over: {', '.join(sorted(left))}")


def same(one, other):
    """Whether two safetensors files hold the same bits; the order of their metadata differs from process to process."""
    with safe_open(one, "pt") as first, safe_open(other, "pt") as second:
        names = set(first.keys())
        return (
            names == set(second.keys())
            and first.metadata() == second.metadata()
            and all(torch.equal(first.get_tensor(name), second.get_tensor(name)) for name in names)
        )


def files(folder):
    """Relative paths of all files but the newest group's images, which are of whichever iteration it was."""
    every = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return {path for path in every if not (path.startswith("samples/group/") and path.endswith(".webp"))}


def at_operations(check, numbers, strike, name, expected):
    """Strikes at each of these operations once; the exit codes that there were."""
    codes = Counter()
    for number in numbers:
        folder = check.new()
        code, _ = ended(*train(folder, number, strike))
        if code not in expected:
            raise Disturbed(f"{name} at operation {number}: the run ended with code {code}.")
        codes[code] += 1
        check.finish(folder, f"{name} at operation {number}")
    return codes


def at_random_moments(check, kills, seed=SEED):
    """kill -9 after a random time, several times a run; yields (kills, runs) so far, after each run."""
    draw, done, runs = random.Random(seed), 0, 0
    while done < kills:
        folder, of_this_run = check.new(), 0
        while done < kills and of_this_run < 4:
            pid, read = train(folder)
            time.sleep(draw.uniform(0, check.seconds))
            os.kill(pid, signal.SIGKILL)
            code, _ = ended(pid, read)
            if code not in (-signal.SIGKILL, FINISHED):
                raise Disturbed(f"kill {done + 1} (seed {seed}): the run ended with code {code} before it.")
            done += code != FINISHED
            of_this_run += 1
            if code == FINISHED:
                break
        runs += 1
        check.finish(folder, f"random kill {done} (seed {seed})")
        yield done, runs


def all_operations(place, every=1, first=1):
    """Kills, a full and a read-only disk, at each file operation once (every: at each so many-th); tells in lines."""
    check = Check(place)
    numbers = range(first, check.operations + 1, every)
    yield f"An undisturbed run: {check.operations} file operations, {check.seconds:.2f} s."
    # Their number depends a little on the time that a run takes: the last one may not be reached.
    codes = at_operations(check, numbers, kill, "kill", {9, FINISHED})
    yield f"Killed at {codes[9]} of them: all went on bit for bit, no file left over."
    for strike, name in ((disk_is_full, "full disk"), (disk_is_read_only, "read-only disk")):
        codes = at_operations(check, numbers, strike, name, {FINISHED, TOLD})
        yield (
            f"{name.capitalize()} from {len(numbers)} of them on: {codes[TOLD]} named it, {codes[FINISHED]} didn't "
            "need it; all went on bit for bit, no file left over."
        )


def random_moments(place, kills, seed=SEED):
    """kill -9 at random moments; tells in a line, and in between how far it is."""
    told = 0
    for done, runs in at_random_moments(Check(place), kills, seed):
        if done >= min(told + 100, kills):
            told = done
            yield (
                f"kill -9 at {done} random moments in {runs} runs (seed {seed}): all went on bit for bit, no file left "
                "over."
            )
