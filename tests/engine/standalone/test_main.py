"""`python -m mixgrpo_engine`: the run file, a whole training on a tiny FLUX and SD3, resume, Ctrl-C, evaluation."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mixgrpo_engine import __main__ as command
from mixgrpo_engine.records.events import read
from mixgrpo_engine.records.run_folder import RunFolder
from mixgrpo_engine.standalone import console, run_file, runner
from tests.engine.distributed.ranks_job import launch
from tests.engine.policies import tiny_pipelines

ROOT = Path(__file__).resolve().parents[3]
PROMPTS = ["a red circle", "two blue squares", "a green square on the left"]
SETTINGS = {
    "rollout": {"steps": 3, "group_size": 2, "cfg": 1},
    "window": {"size": 1, "interval": 1},
    "optimizer": {"updates": 1, "learning_rate": 0.001},
    "adapter": {"rank": 2},
    "run": {"iterations": 2, "width": 64, "height": 64, "evaluate_every": 2, "evaluate_images": 1},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {"flux": tiny_pipelines.flux(root / "flux"), "sd3": tiny_pipelines.sd3(root / "sd3")}


@pytest.fixture
def write(tmp_path):
    """`write(**entries)`: a run file with these in the place of a good one's entries; groups of settings are merged."""

    def make(settings=None, **entries):
        merged = {group: {**values, **(settings or {}).get(group, {})} for group, values in SETTINGS.items()}
        merged |= {group: values for group, values in (settings or {}).items() if group not in merged}
        values = {
            "model": {"kind": "diffusers", "path": "model", "sequence_length": 32, "device": "cpu"},
            "prompts": PROMPTS,
            "held_out": 1,
            "rewards": [{"name": "shapes"}],
            "settings": merged,
            "output": "out/my-run",
            **entries,
        }
        path = tmp_path / "run.json"
        path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
        return path

    return make


def model(path, **more):
    return {"kind": "diffusers", "path": str(path), "sequence_length": 32, "device": "cpu", **more}


def types(folder):
    return [event["type"] for event in read(folder.events)[0]]


@pytest.mark.parametrize("kind", ["flux", "sd3"])
def test_a_run_trains_goes_on_and_is_evaluated(kind, models, write, tmp_path, capsys):
    entry = model(models[kind])
    cfg = {"rollout": {"cfg": 2.0}} if kind == "sd3" else {}
    path = write(cfg, model=entry)
    assert command.main(["train", str(path)]) == 0
    folder = RunFolder(tmp_path / "out" / "my-run")
    assert folder.status()["state"] == "finished" and folder.lora.exists() and folder.best_lora.exists()
    told = types(folder)
    assert told.count("iteration") == 2 and told.count("evaluation") == 2 and told[-1] == "done"
    assert len(list((folder.path / "prompts").iterdir())) == 1
    printed = capsys.readouterr().out
    assert "iteration 2/2: reward shapes" in printed and "Finished after 2 iterations" in printed

    assert command.main(["train", str(write({**cfg, "run": {"iterations": 3}}, model=entry))]) == 0
    assert "Resumed after iteration 2." in capsys.readouterr().out
    assert types(folder).count("iteration") == 3

    assert command.main(["evaluate", str(path)]) == 0
    results = json.loads((folder.path / "evaluation.json").read_text())
    assert results.keys() == {"base", "last", "best"}
    assert folder.status()["state"] == "finished"
    first, *_, last = [event for event in read(folder.events)[0] if event["type"] == "evaluation"]
    assert results["base"]["shapes"] == pytest.approx(first["reward"]["shapes"], abs=1e-6)
    assert results["last"]["shapes"] == pytest.approx(last["reward"]["shapes"], abs=1e-6)

    assert command.main(["train", str(write({**cfg, "window": {"size": 2}}, model=entry))]) == 1
    assert "config.window.size was 1 and is 2" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["flux", "sd3"])
def test_prompts_that_are_cut_off_are_counted_and_equal_ones_refused(kind, models, write, tmp_path, capsys):
    """The tiny models spell: 75 letters fit into CLIP, 31 letters and spaces into T5 with these settings."""
    settings, entry = {"run": {"iterations": 1, "evaluate_every": 0, "sample_every": 0}}, model(models[kind])
    long, longer = "a red circle on the left of the white square", "a red circle on " + "the left " * 10
    path = write(settings, prompts=[*PROMPTS, long, longer], held_out=0, model=entry)
    assert command.main(["train", str(path)]) == 0
    folder = RunFolder(tmp_path / "out" / "my-run")
    notices = [event["message"] for event in read(folder.events)[0] if event["type"] == "notice"]
    first, second, t5 = [f"text_encoder{number}" for number in ("", "_2", "_3")]
    counts = f"{second}: 2, {first}: 1" if kind == "flux" else f"{t5}: 2, {first}: 1, {second}: 1"
    assert notices == [
        f"2 of 6 prompts are longer than a text encoder reads ({counts}): the ends of 1 have no effect, the others' "
        f"reach only other text encoders. The first: '{long}'."
    ]
    equal = ["a red circle on " + "the left " * 10 + end for end in ("two", "blue")]
    path = write(settings, prompts=equal, held_out=0, model=entry, output="out/equal")
    assert command.main(["train", str(path)]) == 1
    error = capsys.readouterr().err
    assert "makes the same of the prompts 'a red" in error and "reads only their beginnings" in error


def test_a_run_from_when_settings_without_effect_were_kept_goes_on(write):
    run = runner.Run(run_file.read(write()))
    run.folder.create()
    run._claim()
    job = json.loads(run.folder.job.read_text())
    job["config"]["run"]["negative_prompt"] = "dim"
    run.folder.job.write_text(json.dumps(job))
    run._claim()


def test_all_weights_end_as_a_transformer_that_diffusers_loads(models, write, tmp_path):
    from diffusers import SD3Transformer2DModel

    settings = {"adapter": {"kind": "full"}, "optimizer": {"learning_rate": 0.001, "ema_decay": 0.5}}
    path = write(settings, model=model(models["sd3"]), rewards=[{"name": "shapes"}])
    assert command.main(["train", str(path)]) == 0
    folder = RunFolder(tmp_path / "out" / "my-run")
    done = read(folder.events)[0][-1]
    trained = SD3Transformer2DModel.from_pretrained(folder.path / done["lora"])
    base = SD3Transformer2DModel.from_pretrained(models["sd3"] / "transformer")
    assert all(tensor.isfinite().all() for tensor in trained.state_dict().values())
    assert trained.config.num_layers == base.config.num_layers
    assert command.main(["evaluate", str(path)]) == 0
    assert json.loads((folder.path / "evaluation.json").read_text()).keys() == {"base", "last", "best"}


class Brightness:
    """A reward that always tells images apart."""

    name = "brightness"

    def score(self, images, prompts):
        return images.flatten(1).mean(1)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_resumed_run_ends_where_an_undisturbed_one_ends(kind, models, write, monkeypatch, tmp_path):
    def weights(output, stop_after=None):
        settings = {"adapter": {"kind": kind}, "run": {"iterations": 3, "checkpoint_every": 1, "evaluate_every": 0}}
        file = run_file.read(write(settings, model=model(models["sd3"]), output=output))
        run = runner.Run(file)
        monkeypatch.setattr(run, "rewards", lambda entries: ({"brightness": Brightness()} if entries else {}, None))
        finished = []
        run.say = lambda event: finished.append(event) if event.type == "iteration" else None
        outcome = runner.train(run, lambda: stop_after is not None and len(finished) >= stop_after)
        assert outcome == ("cancelled" if stop_after else "finished")
        if stop_after:
            return len(finished)
        exported = run.folder.lora if kind == "lora" else run.folder.lora / "diffusion_pytorch_model.safetensors"
        return exported.read_bytes()

    straight = weights("straight")
    assert weights("resumed", stop_after=2) == 2
    resumed = weights("resumed")
    from safetensors.torch import load

    straight, resumed = load(straight), load(resumed)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    name = next(name for name in straight if "lora_B" in name or "attn.to_q.weight" in name)
    assert straight[name].abs().max() > 0


def test_an_own_reward_comes_from_the_command_line_only(models, write, monkeypatch, tmp_path, capsys):
    (tmp_path / "my_rewards.py").write_text(
        "class Bright:\n    name = 'bright'\n    def score(self, images, prompts):\n"
        "        return images.flatten(1).mean(1)\nbright, nothing = Bright(), 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = write(model=model(models["sd3"]), rewards=None)
    asked = [str(path), "--reward", "my_rewards:Bright", "--reward", "my_rewards:bright"]
    assert command.main(["train", *asked]) == 0
    events = read(RunFolder(tmp_path / "out" / "my-run").events)[0]
    assert [e for e in events if e["type"] == "iteration"][-1]["reward"].keys() == {"bright", "bright 2"}
    assert command.main(["train", *asked[:3]]) == 1 and "holds another run" in capsys.readouterr().err
    path = write(model=model(models["sd3"]), output="out/b")
    for place, sentence in {
        "my_rewards:nothing": "A int is no reward",
        "my_rewards:none": "The reward 'my_rewards:none' can't be imported (module 'my_rewards' has no",
        "no_such_module:x": "The reward 'no_such_module:x' can't be imported (No module named 'no_such_module')",
    }.items():
        assert command.main(["train", str(path), "--reward", place]) == 1
        assert sentence in capsys.readouterr().err


def test_more_iterations_go_on_unless_the_learning_rate_falls(models, write, capsys, tmp_path):
    def train(iterations, schedule):
        settings = {"run": {"iterations": iterations, "evaluate_every": 0}, "optimizer": {"schedule": schedule}}
        return command.main(["train", str(write(settings, model=model(models["sd3"]), output=f"out/{schedule}"))])

    assert [train(1, "constant"), train(2, "constant")] == [0, 0]
    assert types(RunFolder(tmp_path / "out" / "constant")).count("iteration") == 2
    assert [train(1, "linear"), train(1, "linear"), train(2, "linear")] == [0, 0, 1]
    assert "holds another run (config.run.iterations was 1 and is 2)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Flow-GRPO", "MixGRPO"])
def test_a_preset_s_lora_gives_way_to_the_start(write, tmp_path, name):
    (tmp_path / "a.safetensors").touch()

    def adapter(**given):
        path = write({"adapter": {"start_from": "a.safetensors", **given}}, preset=name)
        return run_file.read(path).config.adapter

    chosen = adapter()
    assert (chosen.alpha, chosen.targets, chosen.exclude) == (0.0, "", "")
    assert adapter(alpha=8.0).alpha == 8.0
    with pytest.raises(ValueError, match="targets or exclude is set"):
        adapter(targets="attn")


def test_a_run_begins_from_another_ones_lora(models, write, capsys, tmp_path):
    def train(output, **adapter):
        settings = {"adapter": adapter, "run": {"evaluate_every": 0, "iterations": 1}}
        return command.main(["train", str(write(settings, model=model(models["sd3"]), output=output))])

    assert train("first", rank=3) == 0
    file = "first/first.safetensors"  # beside the run file
    assert [train("second", start_from=file), train("second", start_from=file)] == [0, 0]
    (tmp_path / file).write_bytes((tmp_path / "second" / "second.safetensors").read_bytes())
    assert train("second", start_from=file) == 1
    assert "holds another run (start_sha256 was " in capsys.readouterr().err
    assert train("third", start_from="gone.safetensors") == 2
    assert "settings.adapter.start_from: there is no file" in capsys.readouterr().err
    assert train("third", start_from=file, kind="full") == 2
    assert "leave it empty where all weights are trained" in capsys.readouterr().err


def test_evaluate_s_base_model_is_without_the_lora_it_started_from(models, write, tmp_path):
    def evaluated(output, **adapter):
        settings = {"adapter": adapter, "optimizer": {"learning_rate": 0.1}, "run": {"iterations": 1}}
        path = write(settings, model=model(models["sd3"]), output=output, rewards=[{"name": "jpeg"}])
        assert command.main(["train", str(path)]) == command.main(["evaluate", str(path)]) == 0
        return json.loads((tmp_path / output / "evaluation.json").read_text())

    first = evaluated("first", rank=3)
    second = evaluated("second", start_from="first/first.safetensors")
    assert second["base"] == pytest.approx(first["base"], abs=1e-6) and first["base"] != first["last"]


def test_evaluate_tells_of_missing_scores_and_leaves_out_comparisons(models, write, tmp_path, monkeypatch, capsys):
    class Broken:
        name, failures = "broken", ["It is broken."]

        def score(self, images, prompts):
            return torch.full((len(images),), torch.nan)

    class Compares(Brightness):
        name, compares_group = "compares", True

    def evaluate(*rewards):
        run = runner.Run(run_file.read(write(model=model(models["sd3"]))), lambda event: print(console.line(event)))
        monkeypatch.setattr(run, "rewards", lambda entries: ({each.name: each for each in rewards}, {}))
        runner.evaluate(run)
        return json.loads((tmp_path / "out" / "my-run" / "evaluation.json").read_text())

    found = evaluate(Brightness(), Broken(), Compares())
    assert found["base"].keys() == {"brightness", "broken"}
    assert found["base"]["broken"] is None and 0 < found["base"]["brightness"] < 1
    printed = capsys.readouterr().out
    assert "note: The reward 'compares' only compares images with each other: its mean is left out." in printed
    assert "The reward 'broken' couldn't score 1 of 1 images of the base model. It is broken." in printed
    with pytest.raises(ValueError, match="All rewards of the run only compare"):
        evaluate(Compares())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_ctrl_c_saves_a_checkpoint_and_says_so(models, write, tmp_path):
    path = write({"run": {"iterations": 500, "checkpoint_every": 500, "evaluate_every": 0}}, model=model(models["sd3"]))
    process = subprocess.Popen(
        [sys.executable, "-m", "mixgrpo_engine", "train", str(path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    try:
        for text in process.stdout:
            lines.append(text)
            if text.startswith("iteration 2/"):
                process.send_signal(signal.SIGINT)
        code = process.wait(timeout=300)
    finally:
        process.kill()
    printed = "".join(lines)
    assert code == 0, printed
    assert "Stopping" in printed and "checkpoint saved" in printed and "Cancelled after" in printed
    folder = RunFolder(tmp_path / "out" / "my-run")
    assert folder.status()["state"] == "cancelled" and len(list(folder.checkpoints.iterdir())) == 1


def test_two_ranks_train_one_run(models, write, tmp_path):
    path = write({"rollout": {"prompts_per_iteration": 2}}, model=model(models["sd3"]))
    code, printed = launch(2, "mixgrpo_engine", "train", path)
    assert code == 0, printed
    assert printed.count("iteration 2/2") == 1 and printed.count("Encoding 4 prompts.") == 1
    folder = RunFolder(tmp_path / "out" / "my-run")
    assert folder.status()["state"] == "finished" and types(folder).count("iteration") == 2
    assert command.main(["train", str(path)]) == 0  # a single process takes it over, finished as it is


def test_two_processes_never_share_a_folder(models, write, capsys):
    path = write(model=model(models["sd3"]))
    with runner.Run(run_file.read(path)).holding_the_folder():
        assert command.main(["train", str(path)]) == 1
    assert "Another process is at work" in capsys.readouterr().err


def test_a_model_that_cant_be_read_is_one_sentence_and_the_runs_last_event(write, tmp_path, capsys):
    assert command.main(["train", str(write())]) == 1
    assert "There is no model folder" in capsys.readouterr().err
    folder = RunFolder(tmp_path / "out" / "my-run")
    assert folder.status()["state"] == "failed" and types(folder)[-1] == "failed"


WRONG = [
    ({"promts": []}, "unknown entry 'promts'"),
    ({"model": None}, "has no entry 'model'"),
    ({"model": {"kind": "comfyui", "path": "x"}}, 'model.kind is "comfyui"'),
    ({"model": {"kind": "diffusers"}}, "model has no path"),
    ({"model": {"kind": "diffusers", "path": 7}}, "model.path is 7: it must be a text"),
    ({"model": {"kind": "diffusers", "path": "x", "dtype": "int8"}}, "model.dtype is 'int8'"),
    ({"model": {"kind": "diffusers", "path": "x", "device": "gpu"}}, "model.device is 'gpu': write cpu or cuda"),
    ({"model": {"kind": "diffusers", "path": "x", "device": "cuda:99"}}, "model.device is 'cuda:99', but PyTorch sees"),
    ({"model": {"kind": "diffusers", "path": "x", "guidence": 1}}, "model has an unknown entry 'guidence'"),
    ({"prompts": "gone.txt"}, "prompts names the file .*gone.txt, which isn't there"),
    ({"prompts": [1]}, "prompts must be a list of prompts"),
    ({"prompts": []}, "prompt list is empty"),
    ({"held_out": 3}, "leaves none to train on"),
    ({"held_out": ["a red circle"]}, "both trained on and held out: 'a red circle'"),
    ({"rewards": []}, "rewards must be a list"),
    ({"rewards": [{"name": "shape"}]}, 'rewards.0..name is "shape": choose hps'),
    ({"rewards": [{"name": "shapes", "weight": -1}]}, "rewards.0..weight is -1.0"),
    ({"rewards": [{"name": "shapes", "weight": 0}]}, "Every weight in rewards is 0"),
    ({"watch": [{"name": "shapes", "wieght": 1}]}, "watch.0. has an unknown entry 'wieght'"),
    ({"preset": "MixGRP"}, "no preset 'MixGRP'"),
    ({"settings": {"rolout": {}}}, "unknown group 'rolout'"),
    ({"settings": {"rollout": {"step": 3}}}, "settings.rollout.step is unknown"),
    ({"settings": {"rollout": {"steps": "3"}}}, "settings.rollout.steps is '3': it must be a whole number"),
    ({"settings": {"rollout": {"steps": 1}}}, "settings.rollout.steps is 1: it must be 2 to 1000"),
    ({"settings": {"rollout": {"shared_noise": 1}}}, "settings.rollout.shared_noise is 1: it must be true or false"),
    ({"settings": {"run": {"frames": 5}}}, "settings.run.frames is 5: without ComfyUI only models of images"),
    ({"settings": {"run": {"negative_prompt": "dim"}}}, "negative_prompt is 'dim': .* written as model.negative"),
    ({"settings": {"run": {"guidance": 3}}}, "guidance is 3: .* written as model.guidance"),
    ({"settings": {"run": {"processes": 2}}}, "processes is 2: without ComfyUI accelerate launch starts them"),
    ({"settings": {"run": {"try_anyway": True}}}, "try_anyway is True: .* no memory is estimated"),
    ({"settings": {"run": {"swapped_blocks": 3}}}, "swapped_blocks is 3: .* blocks aren't swapped"),
    ({"output": ""}, "output is empty"),
    ({"rewards": [{"name": "os:getcwd"}]}, 'name is "os:getcwd": choose hps'),
    ({"trackers": ["mlflow"]}, "trackers names the tracker 'mlflow': choose tensorboard, wandb, trackio."),
    ({"trackers": "wandb"}, "trackers must be a list such as"),
]


@pytest.mark.parametrize(("entries", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_a_wrong_entry_is_named_in_one_sentence(entries, sentence, write, capsys):
    path = write()
    values = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
    with pytest.raises((ValueError, FileNotFoundError), match=sentence) as raised:
        run_file.read(path)
    assert "\n" not in str(raised.value)
    assert command.main(["train", str(path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_run_file_that_isnt_there_or_isnt_json(tmp_path, capsys):
    assert command.main(["train", str(tmp_path / "gone.json")]) == 2
    (tmp_path / "bad.json").write_text("{")
    assert command.main(["train", str(tmp_path / "bad.json")]) == 2
    errors = capsys.readouterr().err
    assert "There is no run file" in errors and "isn't JSON" in errors


def test_a_preset_is_the_ground_and_settings_change_it(write, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red circle\n\ntwo blue squares\n", encoding="utf-8")
    path = write(prompts="prompts.txt", preset="MixGRPO SD3.5", settings={"rollout": {"steps": 6}})
    values = json.loads(path.read_text())
    values["settings"] = {"rollout": {"steps": 6}}
    path.write_text(json.dumps(values))
    read_file = run_file.read(path)
    assert read_file.config.rollout.steps == 6 and read_file.config.rollout.group_size == 24
    assert read_file.config.loss.kl_weight == 0.001
    assert sorted([*read_file.prompts.train, *read_file.prompts.held_out]) == ["a red circle", "two blue squares"]
    assert read_file.model.path == tmp_path / "model" and read_file.output == tmp_path / "out" / "my-run"
