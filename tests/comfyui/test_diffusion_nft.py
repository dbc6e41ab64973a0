"""DiffusionNFT as a preset in a real run, and the trackers that the server's owner has chosen."""

import importlib.util
import json


def test_finished_images_are_noised_again_and_learned_from(server, graphs):
    owner = server.base / "user" / "mixgrpo.json"
    before = owner.read_text() if owner.exists() else None
    owner.parent.mkdir(exist_ok=True)
    owner.write_text(json.dumps({"trackers": ["wandb"]}))
    graph = graphs.train("noised again", iterations=3, evaluate_every=3)
    small = {"steps": 4, "group_size": 4, "prompts_per_iteration": 1}
    graph["algorithm"]["inputs"] = {"preset": "DiffusionNFT", **small}
    try:
        run_id = server.run_id(server.outputs(graph))
    finally:
        owner.unlink() if before is None else owner.write_text(before)
    events = server.events(run_id)
    iterations = [event for event in events if event["type"] == "iteration"]
    assert [event["window"] for event in iterations] == [[0, 3]] * 3 and iterations[-1]["grad_norm"] > 0
    assert {(event["ratio_deviation"], event["clip_fraction"]) for event in iterations} == {(None, None)}
    assert iterations[-1]["kl"] > 0 and server.lora(run_id).exists()
    schedule = server.get(f"/mixgrpo/runs/{run_id}/schedule")
    assert schedule["random"] is False and (schedule["windows"][0]["start"], schedule["windows"][0]["stop"]) == (0, 3)
    # This Python has no wandb, as a rule: it costs a sentence.
    missing = "The tracker wandb isn't installed: pip install wandb. The run goes on without it."
    told = [event["message"] for event in events if event["type"] == "notice" and "tracker" in event["message"]]
    assert told == ([] if importlib.util.find_spec("wandb") else [missing])
