"""In which order a worker loads what the training needs, and what it gives back before the plan is made."""

import types


def test_one_loader_for_everything_gives_the_text_encoders_memory_back(room, folder, monkeypatch):
    stages, done = room("nodes.worker.stages"), []
    comfy = types.SimpleNamespace(free=lambda: done.append("free"))
    inputs = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "reward": ["2", 0]}
    job = {
        "graph": {"3": {"class_type": "MixGRPO_Train", "inputs": inputs}},
        "node_id": "3",
        "config": {"run": {"iterations": 1}},
    }
    loader = stages.Loader(job, folder, comfy, None, types.SimpleNamespace(check=lambda: None))
    monkeypatch.setattr(loader, "_shares_a_loader", lambda: True)
    monkeypatch.setattr(loader, "_execute", lambda *names: done.append("load") or dict.fromkeys(names, "loaded"))
    monkeypatch.setattr(loader, "_encode", lambda clip, stored: done.append(f"encode by what is {clip}"))
    prompts = room("mixgrpo_engine.prompts").PromptSet(("a red circle",), ())
    _, loaded = loader.load(prompts, room("mixgrpo_engine.config").TrainConfig(), [])
    assert done == ["load", "encode by what is loaded", "free"] and "clip" not in loaded
