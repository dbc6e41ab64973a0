"""A submitted graph becomes a run: a new one, the one that is at work, the finished one, or a resumed one."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from filelock import FileLock, Timeout

from ...mixgrpo_engine.config import TrainConfig
from ...mixgrpo_engine.records.files import write_json
from ...mixgrpo_engine.records.run_folder import RunFolder
from . import job as job_of
from . import liveness, paths, published_lora, signature, stored, stored_prompts, turns, workflow
from .launch import require_devices
from .turns import enter

LOCK_SECONDS = 120.0
STOP_SECONDS = 90.0
TRAINS = ("started", "resumed")  # actions after which a worker trains for this job


@dataclass
class Submission:
    """What became of a submitted job. action: started, resumed, reattached or finished; note: a sentence, or ""."""

    folder: RunFolder
    action: str
    note: str = ""


class _StillStopping(Exception):
    """The run was cancelled a moment ago and still saves its checkpoint; only then can it be resumed."""


def submit(job: dict, restart: bool = False, apart: Collection[str] = ()) -> Submission:
    """job: what job.json holds, with "name" and "fingerprint". restart: start anew even if the run exists.

    apart: ids of runs that stay as they are though this one may have more iterations: the others of its sweep.

    Jobs of the same fingerprint are the same run. One that differs in nothing but more iterations goes on with the run
    that has fewer, if its learning rate is constant and it has a checkpoint: its job and, once that is finished, its
    LoRA are replaced. Nothing else is ever overwritten: a restart gets the next free id.
    """

    def attempt() -> Submission:
        siblings = _siblings(_base_id(job))
        if restart:
            return _start(job, siblings)
        before = _of_this_name(job)
        same = [folder for folder, theirs in before if theirs.get("fingerprint") == job["fingerprint"]]
        if same:
            return _take_up(same[-1], job)
        shorter = [(folder, _iterations(theirs)) for folder, theirs in before if _is_shorter(theirs, job)]
        shorter = [each for each in shorter if each[0].name not in apart]
        if not shorter:
            return _start(job, siblings)
        folder, iterations = max(shorter, key=lambda each: each[1])
        if job["config"]["optimizer"]["schedule"] == "constant":
            return _extend(folder, job, iterations, siblings)
        note = (
            f"Run {folder.name} has the same settings and {iterations} iterations. Its learning rate falls to 0 at the "
            "last one, so this is another run, which starts anew: to go on from that run's LoRA, choose it in "
            "start_from of MixGRPO LoRA."
        )
        return dataclasses.replace(_start(job, siblings), note=note)

    return _once_stopped(attempt)


def resume(folder: RunFolder) -> Submission:
    """Goes on with a run from its last checkpoint. Raises ValueError when it is finished."""

    def attempt() -> Submission:
        if liveness.state_of(folder) == "finished":
            raise ValueError(f"Run {folder.name} is finished: there is nothing to resume.")
        return _take_up(folder, {})

    return _once_stopped(attempt)


def go_on(folder: RunFolder, iterations: int) -> Submission:
    """Goes on with an ended run to more iterations in all. Raises ValueError with one sentence where it can't."""

    def attempt() -> Submission:
        if wrong := liveness.damage(folder):
            raise ValueError(wrong)
        if liveness.state_of(folder) in liveness.ACTIVE and not liveness.is_cancelling(folder):
            raise ValueError(f"Run {folder.name} is at work: it can go on to more iterations when it has ended.")
        before = _own_job(folder)
        had = _iterations(before)
        if iterations <= had:
            raise ValueError(f"Run {folder.name} has {had} iterations already: give a higher number.")
        # A job of an older version lacks newer settings.
        config = TrainConfig.from_dict(before["config"])
        if config.optimizer.schedule != "constant":
            raise ValueError(
                f"The learning rate of run {folder.name} falls to 0 at its last iteration, so there is nothing to go "
                "on with: start another run with this LoRA in start_from of MixGRPO LoRA."
            )
        if not liveness.is_cancelling(folder) and not _saved(folder):
            raise ValueError(f"Run {folder.name} has no checkpoint to go on from: restart it.")
        config.run.iterations = iterations
        longer = {**before, "config": config.as_dict()}
        return _extend(folder, {**longer, "fingerprint": job_of.fingerprint(longer)}, had, [])

    return _once_stopped(attempt)


def restart(folder: RunFolder) -> Submission:
    """Starts the run's job again as a run of its own; this one stays. Raises ValueError where its job can't be read."""
    job = {name: value for name, value in _own_job(folder).items() if name not in ("run_id", "created")}
    submission = submit(job, restart=True)
    workflow.repeat(submission.folder, folder)
    return submission


def _own_job(folder: RunFolder) -> dict:
    """The run's job with its prompts, once it is known to be this ComfyUI's own: what is made of it is signed again."""
    job = stored.job(folder)
    signature.require(job, folder.name, signature.install_key())
    return {**job, "prompts": stored_prompts.read(folder, job)}


def _once_stopped(attempt: Callable[[], Submission]) -> Submission:
    """Attempts under the submit lock, which is free for other runs while this one's worker stops."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        try:
            with lock():
                return attempt()
        except _StillStopping as run:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Run {run} was cancelled but hasn't stopped yet: try again in a minute.") from None
        time.sleep(0.2)


def _start(job: dict, siblings: list[RunFolder]) -> Submission:
    require_devices(job)
    turns.places()
    folder = paths.folder_of(_next_id(_base_id(job), siblings))
    folder.create()
    _write(folder, {**job, "run_id": folder.name, "created": time.time()})
    enter(folder)
    logging.info("MixGRPO: started run %s, its log is %s", folder.name, folder.log)
    return Submission(folder, "started")


def _extend(folder: RunFolder, job: dict, iterations: int, siblings: list[RunFolder]) -> Submission:
    now = liveness.state_of(folder)
    if now in liveness.ACTIVE and not liveness.is_cancelling(folder):
        raise ValueError(
            f"Run {folder.name} has the same settings and is at work on its {iterations} iterations: queue this again "
            "when it has ended, to go on from there, or choose if_exists = restart for a run of its own."
        )
    saved = _saved(folder)
    if not saved and not liveness.is_cancelling(folder):
        note = f"Run {folder.name} has the same settings, but no checkpoint to go on from: this is another run."
        return dataclasses.replace(_start(job, siblings), note=note)
    note = f"Went on from the {saved} iterations that the run had before."
    return dataclasses.replace(_take_up(folder, job, extend=True), note=note)


def _saved(folder: RunFolder) -> int:
    """How many iterations the run's newest checkpoint holds, 0 without one."""
    newest = published_lora.newest_checkpoint(folder)
    return int(newest.name) if newest else 0


def _take_up(folder: RunFolder, job: dict, extend: bool = False) -> Submission:
    """job: what is to replace parts of the stored one, {} leaves it as it is. extend: go on with a finished run."""
    if liveness.is_cancelling(folder):
        raise _StillStopping(folder.name)
    now = liveness.state_of(folder)
    if now == liveness.UNREADABLE:
        raise ValueError(liveness.damage(folder))
    if now == "finished" and not extend:
        published_lora.require_finished(folder)
        return Submission(folder, "finished")
    if now in liveness.ACTIVE:
        return Submission(folder, "reattached")
    before = stored.job(folder)
    signature.require(before, folder.name, signature.install_key())
    # Settings that don't change the training (memory, evaluations, checkpoints) are the new ones.
    asked = {**before, **job}
    require_devices(asked)
    turns.places()
    _write(folder, asked)
    enter(folder)
    logging.info("MixGRPO: resumed run %s (it was %s), its log is %s", folder.name, now, folder.log)
    return Submission(folder, "resumed")


def _write(folder: RunFolder, job: dict) -> None:
    if "prompts" in job and not stored_prompts.are_apart(job):
        job = {**job, "prompts": stored_prompts.write(folder, job["prompts"])}
    write_json(folder.job, signature.signed(job, signature.install_key()))


def _of_this_name(job: dict) -> list[tuple[RunFolder, dict]]:
    """The runs of a job's name and their jobs, oldest first; those whose job can't be read couldn't be taken up."""
    pattern = re.compile(rf"{paths.slug(job['name'])}-[0-9a-f]{{8}}(-[0-9]+)?")
    found = []
    for entry in paths.runs_directory().glob("*"):
        if pattern.fullmatch(entry.name):
            with contextlib.suppress(ValueError):
                found.append((RunFolder(entry), stored.job(RunFolder(entry))))
    return sorted(found, key=lambda each: _created(each[1]))


def _is_shorter(theirs: dict, job: dict) -> bool:
    """Whether a run's job is another one with fewer iterations and nothing else that tells runs apart."""
    there, here = _iterations(theirs), _iterations(job)
    return 0 < there < here and job_of.fingerprint(job, there) == theirs.get("fingerprint")


def _created(job: dict) -> float:
    return job["created"] if stored.is_number(job.get("created")) else 0.0


def _iterations(job: dict) -> int:
    """0 for a job that doesn't say."""
    try:
        return int(job["config"]["run"]["iterations"])
    except (KeyError, TypeError, ValueError):
        return 0


def _base_id(job: dict) -> str:
    return f"{paths.slug(job['name'])}-{job['fingerprint'][:8]}"


def _siblings(base: str) -> list[RunFolder]:
    """The folders base, base-2, base-3 ... that exist, oldest first."""
    found = [entry for entry in paths.runs_directory().glob(f"{base}*") if _number(entry.name, base)]
    return [RunFolder(entry) for entry in sorted(found, key=lambda entry: _number(entry.name, base))]


def _next_id(base: str, siblings: list[RunFolder]) -> str:
    return f"{base}-{_number(siblings[-1].name, base) + 1}" if siblings else base


def _number(name: str, base: str) -> int:
    """1 for base itself, n for base-n, 0 for another name."""
    if name == base:
        return 1
    rest = name.removeprefix(f"{base}-")
    return int(rest) if rest != name and rest.isascii() and rest.isdigit() else 0


def launch_waiting() -> list[str]:
    """Launches the runs whose turn has come, unless somebody else is at it; their ids."""
    with contextlib.suppress(TimeoutError), lock(0.0):
        return turns.launch_due()
    return []


@contextlib.contextmanager
def lock(seconds: float | None = None) -> Iterator[None]:
    """Held by whoever starts, cancels or removes a run. Raises TimeoutError with a sentence when another keeps it.

    seconds: how long to wait for it, LOCK_SECONDS by default.
    """
    seconds = LOCK_SECONDS if seconds is None else seconds
    path = paths.runs_directory() / ".submit.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path)
    try:
        held.acquire(timeout=seconds)
    except Timeout:
        raise TimeoutError(f"{path} stayed locked for {seconds:g} s: another process holds it. Try again.") from None
    try:
        yield
    finally:
        held.release()
