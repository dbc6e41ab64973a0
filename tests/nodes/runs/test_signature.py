"""Only jobs that this ComfyUI has written are run, and the key that signs them stays out of the run folder."""

import json
import subprocess
import sys

import pytest


def test_key_is_made_once_outside_of_output_and_private(runs, tmp_path):
    key = runs.signature.install_key()
    assert len(key) == 32 and runs.signature.install_key() == key
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.relative_to(tmp_path).as_posix() for path in files] == ["user/mixgrpo.key"]
    assert files[0].stat().st_mode & 0o777 == 0o600
    files[0].write_bytes(b"")
    with pytest.raises(ValueError, match=r"mixgrpo.key is damaged"):
        runs.signature.install_key()


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job["graph"].update(x={"class_type": "Evil", "inputs": {}}),
        lambda job: job.update(comfyui={"root": "/evil"}),
        lambda job: job.update(run_id="another-run"),
        lambda job: job.pop("signature"),
        lambda job: job.update(signature=None),
        lambda job: job.update(signature="\u00fc"),
        lambda job: job.update(signature="0" * 64),
        lambda job: job.update(loss=float("nan")),
    ],
)
def test_changed_job_is_neither_resumed_nor_started(runs, folder, monkeypatch, change):
    job = json.loads(folder.job.read_text())
    runs.signature.require(job, folder.name, runs.signature.install_key())
    change(job)
    folder.job.write_text(json.dumps(job))
    expect_no_start(runs, folder, monkeypatch)


@pytest.mark.parametrize("renamed", [False, True])
def test_job_signed_for_one_run_is_refused_in_another_runs_folder(runs, folder, monkeypatch, renamed):
    """As it is, and with the other run's id written into it; by the server and by the worker."""
    other = runs.paths.folder_of("other-run-12345678")
    other.create()
    job = json.loads(folder.job.read_text())
    other.job.write_text(json.dumps({**job, "run_id": other.name} if renamed else job))
    expect_no_start(runs, other, monkeypatch)
    assert start_worker(runs, other, orders(runs)).returncode == 1
    assert "was not written by this ComfyUI" in other.status()["message"]


def expect_no_start(runs, folder, monkeypatch):
    """The server neither resumes nor starts the run in this folder."""
    folder.set_status(state="failed")
    started = []
    with monkeypatch.context() as patch:
        patch.setattr(runs.launch.subprocess, "Popen", lambda *_, **__: started.append(1))
        for attempt in (lambda: runs.submit.resume(folder), lambda: runs.launch.launch(folder)):
            with pytest.raises(ValueError, match="was not written by this ComfyUI"):
                attempt()
    assert started == [] and folder.status()["state"] == "failed"


def start_worker(runs, folder, orders):
    """The worker's script as the server starts it, up to its look at the job."""
    command = [sys.executable, str(runs.launch.ENTRY), str(folder.path)]
    return subprocess.run(command, input=orders, capture_output=True, text=True, timeout=60)


def orders(runs):
    """With this ComfyUI's own key."""
    return json.dumps(
        {"comfyui": {}, "packs": [], "others": {}, "key": runs.signature.install_key().hex(), "stop_seconds": 30}
    )


def test_worker_refuses_a_job_that_was_changed_after_the_server_looked(runs, folder):
    job = json.loads(folder.job.read_text())
    folder.job.write_text(json.dumps({**job, "graph": {"1": {}}}))
    assert start_worker(runs, folder, orders(runs)).returncode == 1
    assert "was not written by this ComfyUI" in folder.status()["message"]
    assert runs.liveness.state_of(folder) == "failed"
    assert start_worker(runs, folder, "").returncode == 2


def test_run_folder_does_not_say_how_comfyui_was_started(runs, folder):
    job = json.loads(folder.job.read_text())
    orders = runs.launch.start_orders(folder, job)
    assert orders["comfyui"].keys() == {"root", "argv", "sys_path"} and orders["packs"] == []
    text = "".join(path.read_text() for path in folder.path.rglob("*") if path.is_file())
    assert orders["key"] not in text and orders["comfyui"]["root"] not in text


def test_the_worker_is_told_the_owners_trackers(runs, folder, monkeypatch):
    job = json.loads(folder.job.read_text())
    assert list(runs.launch.start_orders(folder, job)["trackers"]) == []
    monkeypatch.setenv("MIXGRPO_TRACKERS", "wandb, tensorboard")
    assert list(runs.launch.start_orders(folder, job)["trackers"]) == ["wandb", "tensorboard"]
    monkeypatch.setenv("MIXGRPO_TRACKERS", "mlflow")
    with pytest.raises(ValueError, match="The setting trackers names the tracker 'mlflow': choose tensorboard, wandb"):
        runs.launch.start_orders(folder, job)
