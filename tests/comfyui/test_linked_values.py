"""Values that come by links of any type: refused by the node that gets them, before anything starts."""

import json

import pytest

# Nodes as small as they get; "?" stands for the linked value.
IMAGES = {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 2, "color": 255}}
TINY = {"class_type": "MixGRPO_TinyModel", "inputs": {}}
JPEG = {"class_type": "MixGRPO_RewardJPEG", "inputs": {"kind": "compressibility"}}
PICK = {"images": ["images", 0], "reward": ["jpeg", 0], "prompt": ""}
MODELS = {"vae": ["tiny", 2], "clip": ["tiny", 1], "reward": ["jpeg", 0]}
EVALUATE = {"base": ["tiny", 0], "tuned": ["tiny", 0], "text": "a red circle", "negative": "", **MODELS}
GROUP = {"model": ["tiny", 0], "algorithm": ["algorithm", 0], "prompt": "a red circle", **MODELS}

CASES = [
    ("Train", {"iterations": "?"}, 2.7, "iterations of MixGRPO Train is 2.7: it must be a whole number."),
    ("Train", {"gradient_checkpointing": "?"}, "false", "gradient_checkpointing of MixGRPO Train is 'false': it must"),
    ("Train", {"seed": "?"}, -1, "seed of MixGRPO Train is -1: it must be 0 to 9007199254740991."),
    ("Train", {"width": "?"}, 100, "width of MixGRPO Train is 100: it must be a multiple of 16."),
    ("Train", {"run_name": "?"}, 5, "run_name of MixGRPO Train is 5: it must be a text."),
    ("Train", {"mode": "?"}, "later", "mode of MixGRPO Train is 'later': choose wait, detached."),
    ("Train", {"vae": 5}, None, "vae of MixGRPO Train is a number: connect a VAE loader."),
    ("Wait", {"run_id": "x", "timeout": "?"}, "soon", "timeout of MixGRPO Wait is 'soon': it must be a whole number."),
    ("Wait", {"run": "?", "timeout": 0}, 5, "run of MixGRPO Wait is a number: connect MixGRPO Train or MixGRPO Wait."),
    (
        "ApplyRun", {"model": ["tiny", 0], "run_id": "x", "strength": "?"}, "strong",
        "strength of MixGRPO Apply Run is 'strong': it must be a number.",
    ),
    (
        "ApplyRun", {"model": 5, "run_id": "x", "strength": 1.0}, None,
        "model of MixGRPO Apply Run is a number: connect a diffusion model's loader.",
    ),
    ("Prompts", {"text": "a", "held_out": "?"}, 1.5, "held_out of MixGRPO Prompts is 1.5: it must be a whole number."),
    ("Prompts", {"text": "a", "split_seed": "?"}, -1, "split_seed of MixGRPO Prompts is -1: it must be 0 to"),
    ("Score", {**PICK, "prompt_per_line": "?"}, "false", "prompt_per_line of MixGRPO Score is 'false': it must"),
    ("Score", {**PICK, "images": "x"}, None, "images of MixGRPO Score is a string: connect a node that gives images."),
    ("PickBest", {**PICK, "top_k": "?"}, "1", "top_k of MixGRPO Pick Best is '1': it must be a whole number."),
    (
        "SaveScored", {"images": ["images", 0], "scores": "[1, 2]", "order": "?"}, "worst first",
        "order of MixGRPO Save Scored Images is 'worst first': choose best first, as they come.",
    ),
    ("Evaluate", {**EVALUATE, "steps": "?"}, 0, "steps of MixGRPO Evaluate is 0: it must be 1 to 10000."),
    ("GroupSample", {**GROUP, "height": "?"}, 68, "height of MixGRPO Group Sample is 68: it must be a multiple of 8."),
    ("Sampler", {"eta": "?"}, "0.7", "eta of MixGRPO Sampler is '0.7': it must be a number."),
    ("Sigmas", {"model": ["tiny", 0], "shift": "?"}, -1, "shift of MixGRPO Sigmas is -1.0: it must be 0 to 20."),
    (
        "RewardMix", {"reward_1": ["jpeg", 0], "weight_1": "?"}, "half",
        "weight_1 of MixGRPO Reward Mix is 'half': it must be a number.",
    ),
    ("RewardJPEG", {"kind": "?"}, "size", "kind of MixGRPO Reward: JPEG Size is 'size': choose compressibility, inc"),
]  # fmt: skip


def runs(server):
    return {run["run_id"] for run in server.get("/mixgrpo/runs")["runs"]}


@pytest.mark.parametrize(("node", "inputs", "value", "sentence"), CASES)
def test_a_value_that_does_not_fit_is_one_sentence(server, graphs, node, inputs, value, sentence):
    before = runs(server)
    graph = graphs.train("linked values")
    if node == "Train":
        tested = graph["train"]
    else:
        del graph["train"]
        tested = graph["tested"] = {"class_type": f"MixGRPO_{node}", "inputs": {}}
        # An output, whatever the node gives.
        graph["show"] = {"class_type": "PreviewAny", "inputs": {"source": ["tested", 0]}}
    graph |= {"tiny": TINY, "jpeg": JPEG, "images": IMAGES}
    graph["value"] = {"class_type": "Test_Value", "inputs": {"text": json.dumps(value)}}
    tested["inputs"] |= {name: ["value", 0] if given == "?" else given for name, given in inputs.items()}
    message = server.error(graph, 60)["exception_message"].strip()
    assert message.startswith(sentence) and "\n" not in message
    assert runs(server) == before
