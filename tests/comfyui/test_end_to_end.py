"""A queued graph becomes a LoRA: wait mode, outputs, and what runs where."""

import urllib.parse

import pytest
from safetensors import safe_open
from safetensors.torch import load_file


def test_run_is_named_after_its_name_and_content(server, first_run):
    run = server.run(first_run[1])
    assert first_run[1].startswith("first-run-uber-all-")
    assert run["name"] == "First run, \u00fcber all!"
    assert (run["state"], run["iteration"], run["iterations"]) == ("finished", 2, 2)


def test_ui_has_images_text_and_files_that_can_be_viewed(server, first_run):
    ui = first_run[0]["train"]
    assert set(ui) >= {"images", "text", "files"} and all(isinstance(value, list) for value in ui.values())
    assert [item["filename"] for item in ui["images"]][0] == "reward.png"
    assert {item["filename"] for item in ui["files"]} == {
        f"{first_run[1]}.safetensors",
        f"{first_run[1]}-best.safetensors",
        "events.jsonl",
    }
    for item in ui["images"] + ui["files"]:
        assert server.request("HEAD", "/view?" + urllib.parse.urlencode(item))[0] == 200, item


def test_lora_is_in_the_stock_loader_and_complete(server, first_run):
    choices = server.get("/object_info/LoraLoaderModelOnly")["LoraLoaderModelOnly"]["input"]["required"]["lora_name"]
    assert f"mixgrpo/{first_run[1]}.safetensors" in str(choices)
    assert (
        server.lora(first_run[1]).read_bytes()
        == (server.folder(first_run[1]) / f"{first_run[1]}.safetensors").read_bytes()
    )


def test_loaders_run_in_the_worker_only(server, first_run):
    worker, loaded = str(server.run(first_run[1])["pid"]), [node for node, _ in first_run[3]]
    assert {pid for _, pid in first_run[3]} == {worker} and worker != str(server.pid)
    assert loaded[0] == "clip" and sorted(loaded[1:]) == ["model", "reward", "vae"]


def test_events_tell_the_whole_story(server, first_run):
    events = server.events(first_run[1])
    assert [e["name"] for e in events if e["type"] == "stage"] == ["boot", "load", "encode", "load", "train"]
    assert [e["iteration"] for e in events if e["type"] == "iteration"] == [1, 2]
    assert [e["iteration"] for e in events if e["type"] == "evaluation"] == [0, 1, 2]
    assert any(e["message"].startswith("Memory, estimated: ") for e in events if e["type"] == "notice")
    assert events[-1]["type"] == "done"


def test_open_socket_was_told_every_event(server, first_run):
    assert [event for message in first_run[2] for event in message["events"]] == server.events(first_run[1])


def test_worker_loads_the_graphs_packs_only_and_cleans_up(server, first_run):
    folder = server.folder(first_run[1])
    assert not (folder / "temp").exists()
    assert not list(folder.rglob("*.tmp"))
    log = (folder / "worker.log").read_text()
    assert "test_pack" in log and "websocket_image_save" not in log.split("Import times for custom nodes:")[1]
    assert "Exception during processing" not in log


@pytest.fixture(scope="module")
def by_preset(server, graphs):
    """The id of a run of the embedded model with a preset and a negative prompt, without a LoRA node."""
    graph = graphs.tiny("lora by preset")
    graph["algorithm"]["inputs"] = {"preset": "MixGRPO SD3.5 UniRL", "group_size": 4, "prompts_per_iteration": 1}
    del graph["lora"], graph["train"]["inputs"]["lora"]
    graph["train"]["inputs"]["negative_prompt"] = "blurry"
    return server.run_id(server.outputs(graph))


def test_embedded_tiny_model_trains_with_one_loader_for_everything(server, by_preset):
    events = server.events(by_preset)
    # Model, clip and vae come from one node: it runs once.
    assert [e["name"] for e in events if e["type"] == "stage"] == ["boot", "load", "encode", "train"]
    assert events[-1]["type"] == "done"
    assert all(0 <= e["reward"]["shapes"] <= 1 for e in events if e["type"] == "iteration")


def test_a_preset_and_a_negative_prompt_without_a_lora_node(server, by_preset):
    run_id, run = by_preset, server.run(by_preset)
    assert (run["state"], run["iteration"], run["config"]["run"]["negative_prompt"]) == ("finished", 2, "blurry")
    assert run["config"]["adapter"]["targets"] == "attn., attn1., attention."
    lora = load_file(server.lora(run_id))
    assert all(".attn." in name for name in lora)
    with safe_open(server.lora(run_id), "pt") as file:
        assert float(file.metadata()["mixgrpo_scale"]) == 64 / 32
    assert {tensor.shape[0] for name, tensor in lora.items() if name.endswith("lora_A.weight")} == {32}
    idle = {name for name, tensor in lora.items() if name.endswith("lora_B.weight") and not tensor.any()}
    # The queries of the text in the last block, whose answers nothing uses.
    assert idle <= {"transformer.transformer_blocks.1.attn.add_q_proj.lora_B.weight"}


def test_apply_run_holds_back_what_samples_until_the_training_has_ended(server, graphs):
    graph = graphs.train("applied", mode="wait", seed=3)
    sources = {name: [name, 0] for name in ("model", "clip", "vae")}
    graph |= {
        "apply": {
            "class_type": "MixGRPO_ApplyRun",
            "inputs": {**sources, "run": ["train", 0], "run_id": "", "strength": 1.0},
        },
        "look": {"class_type": "Test_CountPatches", "inputs": {"model": ["apply", 0]}},
        "look at the base": {"class_type": "Test_CountPatches", "inputs": {"model": ["apply", 2]}},
        "prompt": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["apply", 3], "text": "red"}},
        "latents": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "sample": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["apply", 0], "positive": ["prompt", 0], "negative": ["prompt", 0],
                "latent_image": ["latents", 0], "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple",
            },
        },
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["apply", 4]}},
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}},
    }  # fmt: skip
    before = len(server.traces())
    outputs = server.outputs(graph)
    loaded = [(node, pid == str(server.pid)) for node, pid in server.traces()[before:]]
    # The worker's four first, then the server's: each of its loaders once, none while the training was at work.
    assert [here for _, here in loaded] == [False] * 4 + [True] * 3
    assert {node for node, here in loaded if here} == {"model", "clip", "vae"}
    # Two joint blocks: qkv of both streams (and the second attention of the first), proj where it exists.
    assert int(outputs["look"]["text"][0]) > 4 and outputs["look at the base"]["text"] == ["0"]
    assert len(outputs["show"]["images"]) == 1
    log = server.log.read_text()
    assert "lora key not loaded" not in log


def test_apply_run_refuses_what_is_not_finished(server, graphs):
    graph = {
        "model": {"class_type": "Test_Model", "inputs": {"fail": ""}},
        "apply": {
            "class_type": "MixGRPO_ApplyRun",
            "inputs": {"model": ["model", 0], "run_id": "never-was-12345678", "strength": 1.0},
        },
        "look": {"class_type": "Test_CountPatches", "inputs": {"model": ["apply", 0]}},
    }
    assert "There is no run 'never-was-12345678'" in server.error(graph)["exception_message"]


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("prompts", "a red circle", "prompts of MixGRPO Train is a string: connect a MixGRPO Prompts node."),
        ("algorithm", {"steps": 4}, "algorithm of MixGRPO Train is a table: connect a MixGRPO Algorithm node."),
        ("lora", 32, "lora of MixGRPO Train is a number: connect a MixGRPO LoRA node."),
        ("vae", "vae.safetensors", "vae of MixGRPO Train is a string: connect a VAE loader."),
    ],
)
def test_plain_values_where_links_belong_fail_in_the_server(server, graphs, name, value, sentence):
    graph = graphs.train("literal")
    graph["train"]["inputs"][name] = value
    assert server.error(graph, 30)["exception_message"].strip() == sentence
    assert not [run for run in server.get("/mixgrpo/runs")["runs"] if run["name"] == "literal"]


def test_value_of_a_wrong_kind_fails_in_the_worker_with_its_name(server, graphs):
    graph = graphs.train("wrong kind")
    graph["reward"] = {"class_type": "Test_Anything", "inputs": {}}
    message = server.error(graph)["exception_message"]
    assert "reward of MixGRPO Train is a string: connect a MixGRPO reward node." in message


def test_deleted_lora_of_a_finished_run_is_published_again(server, first_graph, first_run):
    lora = server.lora(first_run[1])
    before = lora.read_bytes()
    lora.unlink()
    assert f"mixgrpo/{first_run[1]}.safetensors" in server.outputs(first_graph(), 60)["train"]["text"][0]
    assert lora.read_bytes() == before


def test_bad_settings_fail_in_the_server_and_start_nothing(server, graphs):
    before = len(server.get("/mixgrpo/runs")["runs"])
    graph = graphs.train("bad")
    graph["lora"]["inputs"]["rank"] = 1
    graph["train"]["inputs"]["run_name"] = "  "
    assert "run_name is empty" in server.error(graph)["exception_message"]
    nested = graphs.train("nested")
    nested["inner"] = {"class_type": "MixGRPO_Train", "inputs": {**nested["train"]["inputs"], "mode": "detached"}}
    nested["apply"] = {
        "class_type": "MixGRPO_ApplyRun",
        "inputs": {"model": ["model", 0], "run": ["inner", 0], "run_id": "", "strength": 1.0},
    }
    nested["train"]["inputs"]["model"] = ["apply", 0]
    # The inner node could train; it isn't an output of this prompt, so only the outer one is asked.
    error = server.error(nested, only=["train"])
    assert error["node_id"] == "train"
    assert "This Train node builds on another one (node inner)" in error["exception_message"]
    assert len(server.get("/mixgrpo/runs")["runs"]) == before
