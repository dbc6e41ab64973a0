"""A reward that is only watched, and the best LoRA that it chooses."""

import pytest


def watched(graphs, run_name, scores, **settings):
    """A run of two iterations whose held-out prompts are scored three times by a watched reward."""
    graph = graphs.train(run_name, **{"evaluate_every": 1, **settings})
    graph["watch"] = {"class_type": "Test_Scripted", "inputs": {"scores": scores}}
    graph["train"]["inputs"]["watch"] = ["watch", 0]
    return graph


@pytest.fixture(scope="module")
def watched_run(server, graphs):
    """A run whose watched reward is best after the first iteration: (its prompt's outputs, its id)."""
    outputs = server.outputs(watched(graphs, "watched", "0.25 0.75 0.5"))
    return outputs, server.run_id(outputs)


def of(events, kind):
    return [event for event in events if event["type"] == kind]


def test_watched_reward_scores_held_out_prompts_only_and_chooses_the_best(server, watched_run):
    events = server.events(watched_run[1])
    assert [event["reward"]["scripted"] for event in of(events, "evaluation")] == [0.25, 0.75, 0.5]
    assert [(event["iteration"], event["score"]) for event in of(events, "best")] == [(0, 0.25), (1, 0.75)]
    assert [list(event["reward"]) for event in of(events, "iteration")] == [["redness"]] * 2
    assert "Loading model, vae, reward, watch." in [event["message"] for event in of(events, "stage")]
    assert {pid for node, pid in server.traces() if node == "scripted"} == {str(server.run(watched_run[1])["pid"])}


def test_one_node_may_be_reward_and_watched(server, graphs):
    graph = graphs.train("watches itself", evaluate_every=2)
    graph["train"]["inputs"]["watch"] = ["reward", 0]
    events = server.events(server.run_id(server.outputs(graph)))
    first, last = (event["reward"] for event in of(events, "evaluation"))
    for rewards in (first, last):
        assert rewards.keys() == {"redness", "redness (watched)"} and rewards["redness"] == rewards["redness (watched)"]
    assert of(events, "best")[-1]["score"] == max(first["redness"], last["redness"])


def test_watching_makes_another_run_that_learns_the_same(server, graphs, watched_run):
    plain = server.run_id(server.outputs(graphs.train("watched", evaluate_every=1)))
    assert plain != watched_run[1]
    assert graphs.same_tensors(server.lora(plain), server.lora(watched_run[1]))


def test_watching_without_evaluations_is_one_sentence(server, graphs):
    graph = watched(graphs, "never asked", "0", evaluate_every=0)
    assert "watch is connected but evaluate_every is 0" in server.error(graph, 30)["exception_message"]


def test_watched_value_of_a_wrong_kind_fails_with_its_name(server, graphs):
    graph = watched(graphs, "wrong watch", "0")
    graph["watch"] = {"class_type": "Test_Anything", "inputs": {}}
    assert "watch of MixGRPO Train is a str, not a reward" in server.error(graph)["exception_message"]
