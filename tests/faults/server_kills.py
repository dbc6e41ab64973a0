"""Kills workers of a real server at random moments: each run ends with the LoRA of one that nobody disturbed."""

import contextlib
import random
import time
from pathlib import Path

import psutil

from tests.comfyui import graphs
from tests.faults import hostile

PER_RUN = 5
SETTINGS = {"iterations": 6, "checkpoint_every": 2, "evaluate_every": 3, "sample_every": 2, "seconds": 0.2}
ENDED = ("finished", "failed", "cancelled", "dead")


def random_moments(place: Path, kills: int, seed: int):
    """Tells in a line. Raises AssertionError at the first run that isn't as it must be."""
    draw, done, runs = random.Random(seed), 0, 0
    with hostile.server(place, {}) as running:
        started = time.monotonic()
        whole = running.run_id(running.outputs(graphs.train("whole", **SETTINGS), 600))
        seconds = time.monotonic() - started
        expected = _files(running, whole)
        while done < kills:
            graph = graphs.train(f"killed {runs}", **SETTINGS)
            run_id, of_this_run = running.start_run(graph), 0
            while done < kills and of_this_run < PER_RUN:
                at = draw.uniform(0, seconds)
                time.sleep(at)
                if not _kill(running, run_id):
                    break
                done, of_this_run = done + 1, of_this_run + 1
                state = running.wait_for_state(run_id, *ENDED, seconds=30)["state"]
                assert state in ("dead", "finished"), f"kill {done} after {at:.2f} s: the run is {state}"
                if state == "dead":
                    status, answer = running.request("POST", f"/mixgrpo/runs/{run_id}/resume")
                    assert status == 200, f"kill {done} after {at:.2f} s: resume answers {status}: {answer}"
            ended = running.wait_for_state(run_id, *ENDED, seconds=600)
            assert ended["state"] == "finished", f"run {run_id}, seed {seed}: {ended['state']}, {ended['message']}"
            assert graphs.same_tensors(running.lora(whole), running.lora(run_id)), f"{run_id} has another LoRA"
            left = _files(running, run_id) - expected
            assert not left, f"{run_id} leaves {', '.join(sorted(left))}"
            runs += 1
        running.wait(lambda: not psutil.Process(running.pid).children(), "the workers to be gone", 60)
        hostile.require_quiet_log(running)
        hostile.require_nothing_outside(place, running)
    yield (
        f"{done} workers of a server killed at random moments of {seconds:.0f} s, {runs} runs (seed {seed}): all went "
        "on bit for bit, no file left over."
    )


def _kill(running, run_id: str) -> bool:
    """kill -9 to the run's worker; False when it has ended by itself."""
    folder = str(running.folder(run_id))
    for child in psutil.Process(running.pid).children():
        with contextlib.suppress(psutil.Error):
            if folder in child.cmdline():
                child.kill()
                return True
    return False


def _files(running, run_id: str) -> set[str]:
    """All files of a run with its name left out; the newest group is of whichever iteration it was."""
    folder = running.folder(run_id)
    every = {path.relative_to(folder).as_posix().replace(run_id, "RUN") for path in folder.rglob("*") if path.is_file()}
    return {path for path in every if not path.startswith("samples/group/")}
