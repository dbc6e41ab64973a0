"""Prompts on a real server: a list of texts is one run, and what becomes of prompts is told."""

from mixgrpo_engine.prompts import split

LINES = "red\nblue\ngreen\nwhite\nblack\nyellow"
LONG = "a red circle to the left of a blue square on a white background, " * 8


def test_a_list_of_texts_is_one_list_of_prompts(server, graphs):
    graph = graphs.train("list of texts", held_out=2)
    graph["list"] = {"class_type": "Test_TextList", "inputs": {"text": LINES}}
    graph["prompts"]["inputs"]["text"] = ["list", 0]
    before = server.get("/mixgrpo/runs")["runs"]
    run = submitted(server, graph)
    runs = server.get("/mixgrpo/runs")["runs"]
    assert len(runs) == len(before) + 1
    prompts = run["prompts"]
    assert len(prompts["train"]) == 4 and len(prompts["held_out"]) == 2
    assert sorted([*prompts["train"], *prompts["held_out"]]) == sorted(LINES.split("\n"))
    # The same prompts as a text: the same run.
    graph["prompts"]["inputs"]["text"] = LINES
    assert submitted(server, graph)["run_id"] == run["run_id"]
    assert len(server.get("/mixgrpo/runs")["runs"]) == len(runs)


def submitted(server, graph):
    """The run that a graph becomes, ended as soon as it is there."""
    run_id = server.start_run(graph)
    server.request("POST", f"/mixgrpo/runs/{run_id}/cancel")
    server.wait_for_state(run_id, "cancelled")
    return server.run(run_id)


def test_files_of_every_kind_are_offered_and_read(server, graphs):
    folder = server.base / "input"
    (folder / "captions.jsonl").write_text('{"prompt": "a\u2028b"}\n{"prompt": "c"}\n', encoding="utf-8")
    (folder / "captions.csv").write_bytes("id,prompt\r\n1,d\r\n".encode("utf-16"))
    offered = server.get("/object_info/MixGRPO_Prompts")["MixGRPO_Prompts"]["input"]["required"]["file"]
    assert {"captions.jsonl", "captions.csv"} <= set(offered[1].get("options", offered[0]))
    graph = graphs.train("captions", prompts="\ufeffe", held_out=0, iterations=1)
    graph["prompts"]["inputs"]["file"] = "captions.jsonl"
    assert submitted(server, graph)["prompts"]["train"] == ["e", "a\u2028b", "c"]


def test_prompts_that_are_cut_off_are_counted_in_a_notice(server, graphs):
    graph = graphs.train("long prompts", prompts=f"red\n{LONG}one\n{LONG}two", held_out=0, iterations=1)
    graph["clip"] = {"class_type": "Test_FluxClip", "inputs": {}}
    run_id = server.run_id(server.outputs(graph))
    notices = [event["message"] for event in server.events(run_id) if event["type"] == "notice"]
    assert (
        "2 of 4 prompts are longer than a text encoder reads (l: 2): their ends reach only other text encoders. "
        f"The first: '{LONG}one'."
    ) in notices


def test_prompts_with_one_encoding_fail_the_run_before_the_training(server, graphs):
    graph = graphs.train("twins", prompts="a red  cat\nblue\nA red cat", held_out=0)
    for _ in range(2):  # queued again, the encodings are there already
        error = server.error(graph)["exception_message"]
        assert "makes the same of the prompts 'a red  cat' and 'A red cat'" in error
    run = server.get("/mixgrpo/runs")["runs"][0]
    assert run["state"] == "failed" and not run.get("iteration")


def test_only_prompts_that_the_run_comes_to_are_encoded(server, graphs):
    """Of 1,000 the held-out ones and those of two iterations; when it goes on longer, that of the third, too."""
    texts = [f"drawn {number}" for number in range(1000)]
    prompts, graph = split(texts, 3), graphs.train("drawn", prompts="\n".join(texts), held_out=3)

    def encoded():
        return [text for text in (server.output / "encoded.txt").read_text().splitlines() if text.startswith("drawn")]

    run_id = server.run_id(server.outputs(graph))
    assert encoded() == [*prompts.held_out, *prompts.at(0, 2, seed=0)]
    graph["train"]["inputs"]["iterations"] = 3
    assert server.run_id(server.outputs(graph)) == run_id
    assert encoded()[-1:] == prompts.at(2, 1, seed=0)
    assert [event["iteration"] for event in server.events(run_id) if event["type"] == "iteration"] == [1, 2, 3]


def test_a_scorer_of_a_training_gets_no_weighting_syntax(server, graphs):
    """The text encoder does."""
    prompts = ["a (red:1.3) circle", r"a (((blue))) square \(big\)"]
    graph = graphs.train("weights", prompts="\n".join(prompts), held_out=0, iterations=1, evaluate_every=1)
    graph["reward"] = {"class_type": "Test_Reads", "inputs": {}}
    server.outputs(graph)
    assert set((server.output / "scored.txt").read_text().splitlines()) == {
        "score a red circle", r"score a blue square (big)", "strict a red circle", "strict a blue square (big)"
    }  # fmt: skip
    assert set(prompts) <= set((server.output / "encoded.txt").read_text().splitlines())


def test_a_run_whose_images_could_not_be_scored_says_so(server, graphs):
    graph = graphs.train("dark", held_out=0)
    graph["reward"] = {"class_type": "Test_Scripted", "inputs": {"scores": "nan nan"}}
    text = server.outputs(graph)["train"]["text"][0]
    assert "scripted without score" in text and "no image of the run: nothing" in text
