"""Votes in a real server: a graph that puts images to the vote, routes that refuse, a training that asks a person."""

import io
import urllib.request
from zipfile import ZipFile

import pytest
from PIL import Image

RED, BLUE = 0xFF0000, 0x0000FF
ONE_OF_TWO = [[1], [0]]


def vote_graph(name, answer="go on", prompt="a colour"):
    """Red and blue to the vote; what is best is saved."""
    colour = {"width": 16, "height": 16, "batch_size": 1}
    return {
        "red": {"class_type": "EmptyImage", "inputs": {**colour, "color": RED}},
        "blue": {"class_type": "EmptyImage", "inputs": {**colour, "color": BLUE}},
        "both": {"class_type": "ImageBatch", "inputs": {"image1": ["red", 0], "image2": ["blue", 0]}},
        "vote": {
            "class_type": "MixGRPO_Vote",
            "inputs": {"images": ["both", 0], "prompt": prompt, "votes": name, "answer": answer},
        },
        "save": {"class_type": "SaveImage", "inputs": {"images": ["vote", 1], "filename_prefix": name}},
    }


def waiting(server, name):
    """The sheets of a set that wait for an answer, [] where there is no such set."""
    status, told = server.request("GET", f"/mixgrpo/votes/{name}")
    return told["next"] if status == 200 else []


def first_waiting(server, name, seconds=120):
    return server.wait(lambda: waiting(server, name), f"a sheet of {name}", seconds)[0]


def answer(server, name, sheet, order):
    status, told = server.request("POST", f"/mixgrpo/votes/{name}/vote", {"sheet": sheet["id"], "order": order})
    assert status == 200, told
    return told


def test_a_graph_goes_on_or_waits_for_the_vote(server):
    outputs = server.outputs(vote_graph("goes-on"))
    assert outputs["vote"]["text"] == ["1 sheet waits for your vote in 'goes-on'."]
    assert len(outputs["save"]["images"]) == 2 and len(waiting(server, "goes-on")) == 1

    prompt = server.queue(vote_graph("waits", "wait"))
    told = answer(server, "waits", first_waiting(server, "waits"), ONE_OF_TWO)
    assert told["votes"] == 1 and told["next"] == [] and told["words"].startswith("1 votes: too few")
    (saved,) = server.result(prompt)["outputs"]["save"]["images"]
    with Image.open(server.output / saved["filename"]) as picture:
        assert picture.getpixel((3, 3)) == (0, 0, 255)

    prompt = server.queue(vote_graph("waits", "wait", "another"))
    first_waiting(server, "waits")
    server.request("POST", "/interrupt")
    assert server.result(prompt)["status"]["status_str"] == "error"
    assert len(waiting(server, "waits")) == 1, "it can still be answered"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/nowhere", None, 404, "There is no set of votes 'nowhere'."),
        ("GET", "/..%2f..%2fusers", None, 404, "must be a name"),
        ("GET", "/Refused", None, 404, "must be a name"),
        ("GET", "/refused?pairs=2", None, 400, "pairs must be 1"),
        ("POST", "/refused/vote", {"sheet": "unknown", "order": ONE_OF_TWO}, 409, "no sheet 'unknown'"),
        ("POST", "/refused/vote", {"sheet": "", "order": [[2], [0]]}, 409, "doesn't fit 2 images"),
        ("POST", "/refused/vote", {"sheet": "", "order": [[0], [0]]}, 409, "doesn't fit 2 images"),
        ("POST", "/refused/vote", {"sheet": "", "order": "best"}, 409, "must be a list of lists"),
        ("POST", "/refused/vote", {"sheet": "", "order": [[1]], "skip": True}, 400, 'either "order" or "skip"'),
        ("POST", "/refused/vote", b"[]", 400, "must hold a JSON object"),
        ("POST", "/refused/undo", {}, 409, "no vote to take back"),
        ("POST", "/refused/add", {"subfolder": "../.."}, 409, "no folder '../..' in ComfyUI's output folder"),
        ("POST", "/refused/add", {"subfolder": "/etc", "type": "input"}, 409, "no folder '/etc'"),
        ("POST", "/refused/add", {"subfolder": "", "type": "temp"}, 409, "choose output or input"),
        ("POST", "/refused/add", {"run_id": "../votes"}, 409, "has no group of images"),
        ("POST", "/refused/add", {"run_id": "a", "iteration": "7"}, 400, "iteration must be the whole number"),
        ("POST", "/refused/add", {"run_id": "a", "iteration": True}, 400, "iteration must be the whole number"),
        ("POST", "/refused/add", {}, 400, 'must hold "run_id"'),
    ],
)
def test_routes_refuse_in_one_sentence(server, method, path, body, status, words):
    if not waiting(server, "refused"):
        server.outputs(vote_graph("refused"))
    if isinstance(body, dict) and body.get("sheet") == "":
        body = {**body, "sheet": first_waiting(server, "refused")["id"]}
    answered, told = server.request(method, f"/mixgrpo/votes{path}", body)
    assert (answered, words in told["error"], told["error"].count("\n")) == (status, True, 0), told
    assert [set_["votes"] for set_ in server.get("/mixgrpo/votes")["sets"] if set_["name"] == "refused"] == [0]


def test_a_set_leaves_as_a_zip_and_is_gone_when_it_is_deleted(server):
    server.outputs(vote_graph("leaves"))
    answer(server, "leaves", first_waiting(server, "leaves"), ONE_OF_TWO)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/mixgrpo/votes/leaves/zip") as told:
        assert 'filename="leaves.zip"' in told.headers["Content-Disposition"]
        with ZipFile(io.BytesIO(told.read())) as archive:
            names = archive.namelist()
            assert b'"order": [[1], [0]]' in archive.read("votes.jsonl")
    assert len([name for name in names if name.startswith("images/") and name.endswith(".webp")]) == 2
    assert server.request("DELETE", "/mixgrpo/votes/leaves")[0] == 200
    assert server.request("GET", "/mixgrpo/votes/leaves")[0] == 404


def test_a_killed_training_asks_again_only_what_was_not_answered(server, graphs):
    graph = graphs.tiny("asks a person", iterations=4, checkpoint_every=4, evaluate_every=4)
    graph["reward"] = {"class_type": "MixGRPO_RewardYou", "inputs": {"votes": "person"}}
    run_id = server.start_run(graph)
    order = [[2], [0, 3], [1]]
    asked = []
    for _ in range(2):
        asked.append(first_waiting(server, "person"))
        assert asked[-1]["source"] == run_id and len(asked[-1]["images"]) == 4
        answer(server, "person", asked[-1], order)
    third = first_waiting(server, "person")
    status, told = server.request("DELETE", "/mixgrpo/votes/person")
    assert status == 409 and f"Run {run_id} is at work and learns from these votes" in told["error"]
    assert server.get("/mixgrpo/votes/person")["runs"] == [run_id]
    server.kill_worker(run_id)
    server.wait_for_state(run_id, "dead", seconds=30)
    assert server.get("/mixgrpo/votes/person")["runs"] == []

    assert server.start_run(graph) == run_id
    server.wait(lambda: server.get("/mixgrpo/votes/person")["runs"], "the run to ask again")
    assert first_waiting(server, "person") == third, "no checkpoint was there: the first two groups were made anew"
    for _ in range(2):
        answer(server, "person", first_waiting(server, "person"), order)
    server.wait_for_state(run_id, "finished")
    told = server.get("/mixgrpo/votes/person")
    assert (told["votes"], told["pending"], told["skipped"]) == (4, 0, 0)
    rewards = [event["reward"]["you"] for event in server.events(run_id) if event["type"] == "iteration"]
    assert rewards[-4:] == [0.5] * 4  # 1, two halves and 0


def test_a_training_by_the_learned_taste_asks_now_and_then(server, graphs):
    """The images voted on have another size than the training's."""
    for number in range(3):
        server.outputs(vote_graph("learned", prompt=f"colour {number}"))
        answer(server, "learned", first_waiting(server, "learned"), ONE_OF_TWO)
    graph = graphs.tiny("by the learned taste", iterations=2)
    graph["reward"] = {"class_type": "MixGRPO_RewardTaste", "inputs": {"votes": "learned", "ask_every": 2}}
    run_id = server.start_run(graph)
    server.wait_for_state(run_id, "finished")
    (asked,) = waiting(server, "learned")
    assert asked["source"] == run_id and len(asked["images"]) == 4
    rewards = [event["reward"]["taste"] for event in server.events(run_id) if event["type"] == "iteration"]
    assert len(rewards) == 2 and None not in rewards


def test_a_vote_on_a_prompt_that_the_training_does_not_know_ends_nothing(server, graphs):
    server.outputs(vote_graph("meanwhile", prompt="known"))
    answer(server, "meanwhile", first_waiting(server, "meanwhile"), ONE_OF_TWO)
    graph = graphs.tiny("votes meanwhile", iterations=8)
    graph["taste"] = {"class_type": "MixGRPO_RewardTaste", "inputs": {"votes": "meanwhile"}}
    graph["slow"] = {"class_type": "Test_Reward", "inputs": {"seconds": 0.5}}
    graph["reward"] = {"class_type": "MixGRPO_RewardMix", "inputs": {"reward_1": ["taste", 0], "reward_2": ["slow", 0]}}
    run_id = server.start_run(graph)
    server.wait_for_iteration(run_id, 1)
    server.outputs(vote_graph("meanwhile", prompt="unknown"))
    answer(server, "meanwhile", first_waiting(server, "meanwhile"), ONE_OF_TWO)
    assert server.run(run_id)["state"] == "running"
    server.wait_for_state(run_id, "finished")
    told = [event["message"] for event in server.events(run_id) if event["type"] == "notice"]
    assert any(
        "Votes on prompts that the training hasn't encoded (1) count from its next start on." in each for each in told
    )
