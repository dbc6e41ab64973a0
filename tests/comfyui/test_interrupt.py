"""Cancel reaches the run, which stops, keeps a checkpoint and goes on later; a LoRA is saved when it is asked for."""

import time

from safetensors.torch import load_file

from mixgrpo_engine.prompts import split


def test_a_waited_run_saves_a_lora_now_and_cancel_stops_it_and_it_goes_on_over_http(server, graphs):
    settings = {"checkpoint_every": 100, "evaluate_every": 1, "evaluate_images": 1}
    graph = graphs.train("stopped", seconds=0.2, iterations=16, **settings)
    scores = " ".join(str(number / 20) for number in range(20))
    graph["watch"] = {"class_type": "Test_Scripted", "inputs": {"scores": scores}}
    graph["train"]["inputs"]["watch"] = ["watch", 0]
    prompt = server.queue(graph)
    run_id = server.wait(
        lambda: next((r["run_id"] for r in server.get("/mixgrpo/runs")["runs"] if r["name"] == "stopped"), None), "run"
    )
    server.wait_for_iteration(run_id, 1)
    saved = save_now(server, run_id)
    server.request("POST", "/interrupt")
    # A bound that tells "cancelled" from "trained to its end" on any machine.
    error = graphs.error_of(server.result(prompt, 20))
    assert error["event"] == "execution_interrupted"
    stopped = server.wait_for_state(run_id, "cancelled", seconds=20)
    assert 1 <= stopped["iteration"] < 16
    assert stopped["checkpoint"] == stopped["iteration"]
    assert not server.lora(run_id).exists()
    best = server.lora(f"{run_id}-best")
    assert stopped["best"]["iteration"] > 0 and stopped["best"]["lora"] == f"mixgrpo/{best.name}"
    assert best.read_bytes() == (server.folder(run_id) / best.name).read_bytes()
    newest = max((server.folder(run_id) / "checkpoints").iterdir(), key=lambda path: path.name)
    assert (newest / "lora.safetensors").exists()

    (server.folder(run_id) / "save").touch()  # of nobody any more
    status, answer = server.request("POST", f"/mixgrpo/runs/{run_id}/resume")
    assert (status, answer.get("action")) == (200, "resumed"), answer
    server.wait_for_state(run_id, "finished")
    assert server.request("POST", f"/mixgrpo/runs/{run_id}/resume")[0] == 409
    assert server.request("POST", f"/mixgrpo/runs/{run_id}/cancel")[0] == 409
    done = [e["iteration"] for e in server.events(run_id) if e["type"] == "iteration"]
    assert done == list(range(1, 17))  # nothing lost, nothing twice
    assert server.lora(run_id).exists() and loras(server, run_id) == saved
    assert_it_tells_of_its_images(server, run_id)


def loras(server, run_id):
    """The LoRAs that were saved because somebody asked for them."""
    return [event for event in server.events(run_id) if event["type"] == "lora"]


def save_now(server, run_id):
    """Asks a run that is at work for its LoRA, by a file, and finds it where ComfyUI's loaders look."""
    folder = server.folder(run_id)
    (folder / "save").touch()
    saved = server.wait(lambda: loras(server, run_id), "a LoRA", 60)
    assert not (folder / "save").exists()
    (event,) = saved
    name = event["lora"]
    assert name == f"{run_id}-{event['iteration']:06d}.safetensors"
    published = server.lora(run_id).with_name(name)
    assert published.read_bytes() == (folder / name).read_bytes()
    assert any(tensor.any() for key, tensor in load_file(published).items() if "lora_B" in key)
    choices = server.get("/object_info/LoraLoaderModelOnly")["LoraLoaderModelOnly"]["input"]["required"]["lora_name"]
    assert f"mixgrpo/{name}" in str(choices)
    return saved


def assert_it_tells_of_its_images(server, run_id):
    folder, status = server.folder(run_id), server.run(run_id)
    assert (folder / "samples" / "group" / "group.json").exists()
    assert status["memory"]["peak"] > 0 and status["images_per_second"] > 0 and status["sparkline"]["values"]
    sample = [event for event in server.events(run_id) if event["type"] == "sample"][-1]
    assert all((folder / image["file"]).exists() for image in sample["images"]) and len(sample["images"]) == 1


def test_cancel_that_another_node_of_the_prompt_hears_stops_the_run_too(server, graphs):
    graph = graphs.train("beside", seconds=0.2, iterations=200)
    graph["slow"] = {"class_type": "Test_Slow", "inputs": {"after": 2.0, "seconds": 60.0}}
    prompt = server.queue(graph)
    server.wait((server.output / "slow.txt").exists, "the slow node to hold the prompt")
    run_id = next(r["run_id"] for r in server.get("/mixgrpo/runs")["runs"] if r["name"] == "beside")
    server.wait_for_iteration(run_id, 1)
    server.request("POST", "/interrupt")
    error = graphs.error_of(server.result(prompt, 20))
    # The Train node itself never saw the interrupt.
    assert (error["event"], error["node_id"]) == ("execution_interrupted", "slow")
    assert server.wait_for_state(run_id, "cancelled", seconds=20)["iteration"] < 200


def test_cancel_right_after_the_start_is_heard(server, graphs):
    run_id = server.start_run(graphs.train("hasty", seconds=0.2, iterations=50))
    time.sleep(0.5)  # the worker is importing ComfyUI
    assert server.request("POST", f"/mixgrpo/runs/{run_id}/cancel")[0] == 200
    server.wait_for_state(run_id, "cancelled", seconds=60)
    assert not [e for e in server.events(run_id) if e["type"] == "iteration"]


def test_cancel_while_prompts_are_encoded_keeps_those_that_are_done(server, graphs):
    """64 prompts a file: the first one is whole when the cancel comes, the second is begun."""
    prompts = [f"prompt {number}" for number in range(63)] + [f"slow {number}" for number in range(9)]
    needed = ["", *split(prompts, 71).needed(iterations=2, count=1, seed=0)]
    asked = {"prompts": "\n".join(prompts), "held_out": 71}
    run_id = server.start_run(graphs.train("encoding", **asked))
    encodings = server.folder(run_id) / "encodings"
    server.wait((encodings / "000000.safetensors").exists, "the first file of encodings")
    assert server.request("POST", f"/mixgrpo/runs/{run_id}/cancel")[0] == 200
    server.wait_for_state(run_id, "cancelled", seconds=20)
    assert [path.name for path in encodings.iterdir()] == ["000000.safetensors"]
    before = encoded(server, needed)
    assert before[:64] == needed[:64] and len(before) < 73

    assert server.run_id(server.outputs(graphs.train("encoding", **asked))) == run_id
    assert encoded(server, needed)[len(before) :] == needed[64:]
    assert sorted(path.name for path in encodings.iterdir()) == ["000000.safetensors", "000001.safetensors"]


def encoded(server, needed):
    """The prompts that were encoded since these began to be, in order."""
    texts = (server.output / "encoded.txt").read_text().split("\n")[:-1]
    return texts[texts.index(needed[1]) - 1 :]
