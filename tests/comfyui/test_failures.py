"""A run that can't go on says why: the worker's own words, the node, the log; never a false success."""


def test_choice_that_does_not_exist_is_refused_before_anything_starts(server, graphs):
    runs = server.get("/mixgrpo/runs")["runs"]
    status, answer = server.request("POST", "/prompt", {"prompt": graphs.train("no choice", if_exists="overwrite")})
    if status == 200:  # ComfyUI left it to the node
        message = graphs.error_of(server.result(answer["prompt_id"]))["exception_message"]
        assert "if_exists of MixGRPO Train is 'overwrite': choose reuse, restart." in message
    assert server.get("/mixgrpo/runs")["runs"] == runs


def test_failing_loader_fails_the_node_with_its_message(server, graphs):
    error = server.error(graphs.train("no model", fail="The disk with the model is unplugged."))
    message = error["exception_message"]
    assert error["node_id"] == "train"
    assert "Node model (Test_Model): The disk with the model is unplugged." in message
    assert "worker.log" in message and "in load" in message  # the log's path and the loader's own traceback
    run = server.get("/mixgrpo/runs")["runs"][0]
    assert (run["state"], run["node_id"]) == ("failed", "model")
    assert not server.lora(run["run_id"]).exists()


def test_layers_that_no_gradient_reaches_end_the_run_by_their_names(server, graphs):
    graph = graphs.tiny("no backward")
    graph["kernels"] = {"class_type": "Test_NoBackward", "inputs": {"model": ["model", 0]}}
    graph["train"]["inputs"]["model"] = ["kernels", 0]
    message = server.error(graph)["exception_message"]
    assert "No gradient reaches 2 of " in message and "joint_blocks.0.x_block.attn.qkv" in message
    assert "SageAttention" in message
    run = server.get("/mixgrpo/runs")["runs"][0]
    assert run["state"] == "failed" and not server.lora(run["run_id"]).exists()


def test_broken_model_file_fails_with_the_loaders_reason(server, graphs):
    folder = server.base / "models" / "diffusion_models"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "broken.safetensors").write_bytes(b"this is no model")
    graph = graphs.train("broken file")
    graph["model"] = {
        "class_type": "UNETLoader",
        "inputs": {"unet_name": "broken.safetensors", "weight_dtype": "default"},
    }
    assert "Node model (UNETLoader):" in server.error(graph)["exception_message"]


def test_reward_that_fails_in_the_middle_fails_the_run_and_can_be_resumed(server, graphs):
    graph = graphs.train("dim", fail_at=2)
    assert "The red light went out at call 2." in server.error(graph)["exception_message"]
    run_id = server.get("/mixgrpo/runs")["runs"][0]["run_id"]
    run = server.run(run_id)
    assert (run["state"], run["iteration"], run["checkpoint"]) == ("failed", 1, 1)
    # The new process counts its calls anew: the second iteration works now.
    assert "finished, iteration 2 of 2" in server.outputs(graph)["train"]["text"][0]
    assert [e["iteration"] for e in server.events(run_id) if e["type"] == "iteration"] == [1, 2]


def test_node_that_ends_the_workers_process_fails_the_run_by_name(server, graphs):
    graph = graphs.train("exit")
    graph["reward"] = {"class_type": "Test_Anything", "inputs": {"exits": True}}
    run_id = server.start_run(graph)
    run = server.wait_for_state(run_id, "failed", "dead", "finished")
    assert run["state"] == "failed" and run["message"]
    assert server.events(run_id)[-1]["type"] == "failed"
