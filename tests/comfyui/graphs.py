"""API prompts for the tests: a Train node with everything it needs, as small as it gets."""

from safetensors.torch import load_file

# What makes an iteration of a tiny model last a tenth of a second; all other widgets have their defaults.
ALGORITHM = {"steps": 4, "group_size": 4, "window_size": 1, "window_interval": 2, "updates": 2, "learning_rate": 1e-3}


def train(run_name, *, fail="", seconds=0.0, fail_at=0, prompts="red\nblue\ngreen", held_out=1, **settings):
    """{node id: node}: the test pack's loaders and a MixGRPO_Train node with id "train"."""
    widgets = {
        "run_name": run_name, "iterations": 2, "seed": 0, "width": 64, "height": 64, "evaluate_every": 0,
        "evaluate_images": 1, "checkpoint_every": 1, "gradient_checkpointing": False, "mixed_precision": "no",
        "mode": "wait", "if_exists": "reuse", "sample_every": 0, **settings,
    }  # fmt: skip
    return {
        "model": {"class_type": "Test_Model", "inputs": {"fail": fail}},
        "clip": {"class_type": "Test_Clip", "inputs": {}},
        "vae": {"class_type": "Test_Vae", "inputs": {}},
        "reward": {"class_type": "Test_Reward", "inputs": {"seconds": seconds, "fail_at": fail_at}},
        "prompts": {
            "class_type": "MixGRPO_Prompts",
            "inputs": {"text": prompts, "file": "none", "held_out": held_out, "split_seed": 0},
        },
        "algorithm": {"class_type": "MixGRPO_Algorithm", "inputs": dict(ALGORITHM)},
        "lora": {"class_type": "MixGRPO_LoRA", "inputs": {"rank": 2, "alpha": 0.0, "targets": "attn", "exclude": ""}},
        "train": {
            "class_type": "MixGRPO_Train",
            "inputs": {
                "model": ["model", 0], "clip": ["clip", 0], "vae": ["vae", 0], "reward": ["reward", 0],
                "prompts": ["prompts", 0], "algorithm": ["algorithm", 0], "lora": ["lora", 0], **widgets,
            },
        },
    }  # fmt: skip


def tiny(run_name, **settings):
    """The same with the embedded tiny model and its reward."""
    prompts = "a red circle on a white background\na blue square on a black background\na green triangle"
    graph = train(run_name, prompts=prompts, **settings)
    graph["model"] = {"class_type": "MixGRPO_TinyModel", "inputs": {}}
    graph["reward"] = {"class_type": "MixGRPO_RewardShapes", "inputs": {}}
    del graph["clip"], graph["vae"]
    graph["train"]["inputs"] |= {"clip": ["model", 1], "vae": ["model", 2]}
    return graph


def stock():
    """A prompt of ComfyUI's own nodes."""
    return {
        "image": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 255}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["image", 0], "filename_prefix": "stock"}},
    }


def error_of(entry):
    """The error or interruption in a history entry."""
    for event, data in entry["status"]["messages"]:
        if event in ("execution_error", "execution_interrupted"):
            return {"event": event, **data}
    return None


def same_tensors(one, other):
    """Whether two safetensors files hold the same tensors, bit for bit, and at least one."""
    one, other = load_file(one), load_file(other)
    return bool(one) and one.keys() == other.keys() and all((one[key] == other[key]).all() for key in one)
