"""A reward that is only watched, and the best LoRA that it chooses."""

import pytest
from safetensors import safe_open


def watched(graphs, run_name, scores, **settings):
    """A run of two iterations whose held-out prompts are scored three times by a watched reward."""
    graph = graphs.train(run_name, **{"evaluate_every": 1, **settings})
    graph["watch"] = {"class_type": "Test_Scripted", "inputs": {"scores": scores}}
    graph["train"]["inputs"]["watch"] = ["watch", 0]
    return graph


@pytest.fixture(scope="module")
def watched_run(server, graphs):
    """A run whose watched reward is best after the first iteration: (its prompt's outputs, its id, what was loaded)."""
    before = len(server.traces())
    outputs = server.outputs(watched(graphs, "watched", "0.25 0.75 0.5"))
    return outputs, server.run_id(outputs), server.traces()[before:]


def of(events, kind):
    return [event for event in events if event["type"] == kind]


def test_watched_reward_scores_held_out_prompts_only_and_chooses_the_best(server, watched_run):
    events = server.events(watched_run[1])
    assert [event["reward"]["scripted"] for event in of(events, "evaluation")] == [0.25, 0.75, 0.5]
    assert [(event["iteration"], event["score"]) for event in of(events, "best")] == [(0, 0.25), (1, 0.75)]
    assert [list(event["reward"]) for event in of(events, "iteration")] == [["redness"]] * 2
    assert "Loading model, vae, reward, watch." in [event["message"] for event in of(events, "stage")]
    assert {pid for node, pid in watched_run[2] if node == "scripted"} == {str(server.run(watched_run[1])["pid"])}


def test_one_node_may_be_reward_and_watched_in_another_run_that_learns_the_same(server, graphs, watched_run):
    graph = graphs.train("watched", evaluate_every=1)
    graph["train"]["inputs"]["watch"] = ["reward", 0]
    itself = server.run_id(server.outputs(graph))
    events = server.events(itself)
    told = [event["reward"] for event in of(events, "evaluation")]
    for rewards in told:
        assert rewards.keys() == {"redness", "redness (watched)"} and rewards["redness"] == rewards["redness (watched)"]
    assert of(events, "best")[-1]["score"] == max(rewards["redness"] for rewards in told)
    assert itself != watched_run[1] and graphs.same_tensors(server.lora(itself), server.lora(watched_run[1]))


def test_watching_without_evaluations_is_one_sentence(server, graphs):
    graph = watched(graphs, "never asked", "0", evaluate_every=0)
    assert "watch is connected but evaluate_every is 0" in server.error(graph, 30)["exception_message"]


def test_best_lora_stands_beside_the_last_one(server, graphs, watched_run):
    outputs, run_id, _ = watched_run
    last, best = server.lora(run_id), server.lora(f"{run_id}-best")
    assert best.read_bytes() == (server.folder(run_id) / best.name).read_bytes()
    iterations = [safe_open(path, "pt").metadata()["mixgrpo_iterations"] for path in (last, best)]
    assert iterations == ["2", "1"] and not graphs.same_tensors(last, best)

    told = {"iteration": 1, "score": 0.75, "lora": f"mixgrpo/{best.name}"}
    assert server.run(run_id)["best"] == told
    assert [run["best"] for run in server.get("/mixgrpo/runs")["runs"] if run["run_id"] == run_id] == [told]
    ui = outputs["train"]
    assert {last.name, best.name} <= {item["filename"] for item in ui["files"]}
    assert f"Best on held-out prompts after iteration 1 (0.750): mixgrpo/{best.name}" in ui["text"][0]


@pytest.mark.parametrize("which", ["last", "best", None])
def test_apply_run_takes_the_one_that_is_asked_for(server, watched_run, which):
    run_id = watched_run[1]
    inputs = {"model": ["model", 0], "run_id": run_id, "strength": 1.0, **({"which": which} if which else {})}
    name = f"mixgrpo/{run_id}{'-best' if which == 'best' else ''}.safetensors"
    graph = {
        "model": {"class_type": "Test_Model", "inputs": {"fail": ""}},
        "ours": {"class_type": "MixGRPO_ApplyRun", "inputs": inputs},
        "name": {"class_type": "PreviewAny", "inputs": {"source": ["ours", 1]}},
        "stock": {
            "class_type": "LoraLoaderModelOnly",
            "inputs": {"model": ["model", 0], "lora_name": name, "strength_model": 1.0},
        },
        "same": {"class_type": "Test_SamePatches", "inputs": {"one": ["ours", 0], "other": ["stock", 0]}},
    }
    outputs = server.outputs(graph, 60)
    assert outputs["name"]["text"] == [name]
    assert int(outputs["same"]["text"][0]) > 4


def test_which_is_one_of_two(server, watched_run):
    graph = {
        "model": {"class_type": "Test_Model", "inputs": {"fail": ""}},
        "apply": {
            "class_type": "MixGRPO_ApplyRun",
            "inputs": {"model": ["model", 0], "run_id": watched_run[1], "strength": 1.0, "which": "worst"},
        },
        "look": {"class_type": "Test_CountPatches", "inputs": {"model": ["apply", 0]}},
    }
    status, answer = server.request("POST", "/prompt", {"prompt": graph})
    # ComfyUI 0.3.75 doesn't check such values itself, later versions do.
    text = answer if status == 400 else server.result(answer["prompt_id"], 30)["status"]["messages"]
    assert "worst" in str(text)
