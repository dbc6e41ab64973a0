"""Whoever may upload files into the output folder can neither execute anything by it nor break other runs."""

import json
import uuid

import pytest


def upload(server, subfolder, name, text):
    """Writes a file into the output folder the way any client can: POST /upload/image."""
    boundary = uuid.uuid4().hex
    fields = {"type": "output", "subfolder": subfolder, "overwrite": "true"}
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n{text}\r\n--{boundary}--\r\n"
    )
    kind = f"multipart/form-data; boundary={boundary}"
    status, answer = server.request("POST", "/upload/image", "".join(parts).encode(), kind)
    assert status == 200, answer


@pytest.fixture
def stopped_run(server, graphs):
    """A run of one's own that was cancelled, so that it could be resumed."""
    run_id = server.start_run(graphs.train("stays put"))
    server.request("POST", f"/mixgrpo/runs/{run_id}/cancel")
    server.wait_for_state(run_id, "cancelled")
    return run_id


def test_uploaded_or_changed_job_is_not_executed(server, stopped_run):
    folder = server.folder(stopped_run)
    job = json.loads((folder / "job.json").read_text())
    # Nothing about how ComfyUI was started, which would decide what code a worker runs.
    assert not {"comfyui", "argv", "sys_path", "packs"} & job.keys()
    mark = server.output / "hacked.txt"
    stranger = {**job, "comfyui": {"root": str(server.output), "argv": [], "sys_path": [str(server.output)]}}
    upload(server, "", "main.py", f"open({str(mark)!r}, 'w')")
    # Another's job under a new id; the same job, changed; a true job under another id.
    upload(server, "mixgrpo/stranger-12345678", "job.json", json.dumps({**stranger, "run_id": "stranger-12345678"}))
    upload(server, "mixgrpo/copied-12345678", "job.json", json.dumps(job))
    upload(server, f"mixgrpo/{stopped_run}", "job.json", json.dumps(stranger))
    before = len(server.events(stopped_run))
    for run_id in ("stranger-12345678", "copied-12345678", stopped_run):
        upload(server, f"mixgrpo/{run_id}", "status.json", json.dumps({"state": "failed"}))
        status, answer = server.request("POST", f"/mixgrpo/runs/{run_id}/resume")
        assert status == 409 and "was not written by this ComfyUI" in answer["error"], answer
        assert server.run(run_id)["state"] == "failed"
    assert not (server.folder("stranger-12345678") / "worker.log").exists()
    assert len(server.events(stopped_run)) == before and not mark.exists()


@pytest.mark.parametrize("name", ["job.json", "launch.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"state": 5, "name": 5, "pid": {}}', "[" * 100_000, "\x00"])
def test_damaged_file_is_named_and_harms_no_other_run(server, first_run, name, text):
    run_id = "damaged-12345678"
    for file, whole in (("job.json", "{}"), ("status.json", '{"state": "failed"}'), ("launch.json", "{}")):
        upload(server, f"mixgrpo/{run_id}", file, text if file == name else whole)
    runs = {run["run_id"]: run for run in server.get("/mixgrpo/runs")["runs"]}
    assert runs[first_run[1]]["state"] == "finished"
    if name == "launch.json":  # it only says where a process was
        assert runs[run_id]["state"] == "failed"
        # An object names no process, as after a reboot.
        assert (name in (runs[run_id]["message"] or "")) is not text.startswith('{"state')
        return
    assert runs[run_id]["state"] == "unreadable" and name in runs[run_id]["message"]
    assert server.run(run_id)["state"] == "unreadable"
    for tail in ("cancel", "resume"):
        status, answer = server.request("POST", f"/mixgrpo/runs/{run_id}/{tail}")
        assert status == 409 and name in answer["error"], answer
    graph = {"wait": {"class_type": "MixGRPO_Wait", "inputs": {"run_id": run_id, "timeout": 0}}}
    assert name in server.error(graph, 30)["exception_message"]
