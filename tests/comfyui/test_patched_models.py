"""What patch nodes before Train do to a run: the LoRA learns, and the run says what was left out."""

from safetensors.torch import load_file


def after(graph, *patches):
    """The graph with these nodes between model and Train, each (class, widgets)."""
    for index, (kind, widgets) in enumerate(patches):
        graph[f"patch {index}"] = {
            "class_type": kind,
            "inputs": {"model": graph["train"]["inputs"]["model"], **widgets},
        }
        graph["train"]["inputs"]["model"] = [f"patch {index}", 0]
    return graph


def notices(server, run_id):
    return [event["message"] for event in server.events(run_id) if event["type"] == "notice"]


def check_it_has_learned(server, run_id):
    tensors = load_file(server.lora(run_id))
    assert not [name for name in tensors if "_orig_mod" in name]
    idle = {name for name, tensor in tensors.items() if "lora_B" in name and not tensor.any()}
    # The queries of the text in the last block, whose answers nothing uses.
    assert idle <= {"transformer.transformer_blocks.1.attn.add_q_proj.lora_B.weight"}


def test_what_has_no_place_in_a_training_is_dropped_with_a_notice_each(server, graphs):
    """A compiled network, an attention without gradients, and a node that is known by its file."""
    graph = after(
        graphs.tiny("patched"),
        ("TorchCompileModel", {"backend": "cudagraphs"}),
        ("RescaleCFG", {"multiplier": 0.7}),
        ("HyperTile", {"tile_size": 32, "swap_size": 2, "max_depth": 0, "scale_depth": False}),
        ("Test_Attention", {}),
    )
    graph["algorithm"]["inputs"]["cfg"] = 3.0
    run_id = server.run_id(server.outputs(graph))
    told = notices(server, run_id)
    assert any("compiled by torch.compile: the uncompiled network is trained" in notice for notice in told)
    assert any("an attention of its own" in notice for notice in told)
    assert any("HyperTile doesn't act in training" in notice for notice in told)
    check_it_has_learned(server, run_id)
