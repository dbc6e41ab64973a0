"""Training that goes on: a finished run with more iterations, a killed one, a LoRA file as another run's start."""

import shutil

import pytest
from safetensors.torch import load_file

LORAS = "MixGRPO_LoRA"


def listed(server):
    """What the combo start_from offers now."""
    spec = server.get(f"/object_info/{LORAS}")[LORAS]["input"]["optional"]["start_from"]
    return spec[1]["options"] if spec[0] == "COMBO" else spec[0]


@pytest.fixture(scope="module")
def of_four(graphs):
    """`of_four(name)` is the graph of a run of four iterations."""

    def graph(name, iterations=4):
        return graphs.train(name, iterations=iterations, checkpoint_every=2, evaluate_every=2, deterministic=True)

    return graph


@pytest.fixture(scope="module")
def whole(server, of_four):
    """The id of a run that nothing has interrupted."""
    return server.run_id(server.outputs(of_four("whole of four")))


def test_a_killed_worker_continues_to_the_same_lora_bit_for_bit(server, graphs, of_four, whole):
    def held():
        """The fourth iteration's score lasts: one an iteration, and one an evaluation, came before."""
        made = of_four("killed")
        made["reward"]["inputs"]["hold_at"] = 3 + 2 + 1
        return made

    killed = server.start_run(held())
    server.wait_for_iteration(killed, 3)
    server.kill_worker(killed)
    server.wait_for_state(killed, "dead", seconds=20)

    # The new process counts its scores anew, and doesn't come to that one.
    assert server.run_id(server.outputs(held())) == killed
    events = server.events(killed)
    assert "resume" in [e.get("name") for e in events]
    # The text encoder wasn't loaded again.
    assert [e["message"] for e in events if e.get("name") == "load"][-1] == "Loading model, vae, reward."
    assert graphs.same_tensors(server.lora(whole), server.lora(killed))


def test_a_finished_run_goes_on_to_the_lora_of_a_longer_one(server, graphs, of_four, whole):
    """Bit for bit, in the same folder."""
    first = server.run_id(server.outputs(of_four("four in two parts", iterations=2)))
    outputs = server.outputs(of_four("four in two parts"))
    assert server.run_id(outputs) == first
    assert outputs["train"]["text"][0].endswith("Went on from the 2 iterations that the run had before.")
    run = server.run(first)
    assert (run["state"], run["iteration"], run["iterations"]) == ("finished", 4, 4)
    assert [e["iteration"] for e in server.events(first) if e["type"] == "iteration"] == [1, 2, 3, 4]
    assert graphs.same_tensors(server.lora(whole), server.lora(first))
    before = len(server.events(first))
    again = server.outputs(of_four("four in two parts"), 60)
    assert (server.run_id(again), len(server.events(first))) == (first, before)


def test_a_run_begins_from_another_ones_lora(server, graphs, first_run):
    first = first_run[1]
    start = copied(server, first, "start")
    assert listed(server)[0] == "none" and start in listed(server)

    def graph(name):
        made = graphs.train(name, iterations=3, evaluate_every=1, seed=2**53 - 1)  # the first run's seed
        made["lora"]["inputs"] |= {"rank": 7, "targets": "", "start_from": start}
        return made

    straight = server.run_id(server.outputs(graph("the second")))
    # It begins as the first run's model: its held-out prompts score what they scored there in the end.
    (*_, ended), (began, *_) = (
        [event["reward"]["redness"] for event in server.events(run) if event["type"] == "evaluation"]
        for run in (first, straight)
    )
    assert began == pytest.approx(ended, abs=1e-6)
    before, after = load_file(server.lora("start")), load_file(server.lora(straight))
    assert before.keys() == after.keys()
    assert {name: tensor.shape for name, tensor in before.items()} == {name: t.shape for name, t in after.items()}
    assert any((before[name] != after[name]).any() for name in before)

    # Killed on the way and resumed, it ends at the same LoRA.
    def held():
        made = graph("resumed second")
        made["reward"]["inputs"]["hold_at"] = 4 * 2 + 3 + 1  # the third iteration's first; a new process counts anew
        return made

    killed = server.start_run(held())
    server.wait_for_iteration(killed, 2)
    server.kill_worker(killed)
    server.wait_for_state(killed, "dead", seconds=20)
    resumed = server.run_id(server.outputs(held()))
    assert resumed == killed and "resume" in [event.get("name") for event in server.events(killed)]
    assert graphs.same_tensors(server.lora(straight), server.lora(resumed))


def copied(server, run_id, name):
    """A run's LoRA under another name, which it has in the loaders."""
    shutil.copyfile(server.lora(run_id), server.lora(name))
    return f"mixgrpo/{name}.safetensors"


def test_apply_run_fails_where_a_part_of_the_lora_would_not_load(server, first_run):
    run_id = first_run[1]
    graph = {
        "model": {"class_type": "MixGRPO_TinyModel", "inputs": {}},
        "apply": {
            "class_type": "MixGRPO_ApplyRun",
            "inputs": {"model": ["model", 0], "run_id": run_id, "strength": 1.0},
        },
        "look": {"class_type": "Test_CountPatches", "inputs": {"model": ["apply", 0]}},
    }
    message = server.error(graph)["exception_message"]
    assert f"layers of run {run_id}'s LoRA fit this model, not transformer." in message
