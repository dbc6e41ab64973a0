"""A LoRA of a run that is at work: asked for by a file, made by the worker, found by ComfyUI's loaders."""

import time

from safetensors.torch import load_file


def test_a_lora_is_saved_in_the_middle_of_a_run_and_published(server, graphs):
    run_id = server.start_run(graphs.train("save now", seconds=0.2, iterations=200, sample_every=1))
    folder = server.folder(run_id)
    server.wait_for_iteration(run_id, 1)
    (folder / "save").touch()
    deadline = time.monotonic() + 60
    while not (saved := [event for event in server.events(run_id) if event["type"] == "lora"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    server.request("POST", f"/mixgrpo/runs/{run_id}/cancel")
    server.wait_for_state(run_id, "cancelled")
    assert not (folder / "save").exists()
    iteration, name = saved[0]["iteration"], saved[0]["lora"]
    assert name == f"{run_id}-{iteration:06d}.safetensors"
    published = server.lora(run_id).with_name(name)
    assert published.read_bytes() == (folder / name).read_bytes()
    assert any(tensor.any() for key, tensor in load_file(published).items() if "lora_B" in key)
    assert graphs.same_tensors(published, folder / name)
    choices = server.get("/object_info/LoraLoaderModelOnly")["LoraLoaderModelOnly"]["input"]["required"]["lora_name"]
    assert f"mixgrpo/{name}" in str(choices)
    (folder / "save").touch()  # of nobody any more
    server.request("POST", f"/mixgrpo/runs/{run_id}/resume")
    server.wait_for_iteration(run_id, server.run(run_id)["checkpoint"] + 2)
    assert [event for event in server.events(run_id) if event["type"] == "lora"] == saved
    server.request("POST", f"/mixgrpo/runs/{run_id}/cancel")
    server.wait_for_state(run_id, "cancelled")
    newest = max((folder / "checkpoints").iterdir(), key=lambda path: path.name)
    assert (newest / "lora.safetensors").exists() and (folder / "samples" / "group" / "group.json").exists()
    status = server.run(run_id)
    assert status["memory"]["peak"] > 0 and status["images_per_second"] > 0 and status["sparkline"]["values"]
    sample = [event for event in server.events(run_id) if event["type"] == "sample"][-1]
    assert all((folder / image["file"]).exists() for image in sample["images"]) and len(sample["images"]) == 1
