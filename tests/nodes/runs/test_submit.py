"""Which run a job becomes: a new one, one that goes on, or one that is finished."""

import asyncio
import dataclasses
import time

import pytest
import torch

# Of the first release.
PLAIN = "ce996ab39b7eb2083cc5bc874372924390e9b4d75da4e6683805139377c8fb79"
FLASH = "a24e1ed47ccdf6443fb676ec0b18a1b28f891258ff0c6bb26cb57d5fb08307b2"


def test_submitting_decides_by_fingerprint_and_state(runs, monkeypatch):
    """Which run a job becomes; the process itself is not started here."""
    started = []
    monkeypatch.setattr(runs.submit, "enter", lambda folder: started.append(folder.name))

    def submit(fingerprint, **options):
        job = {"name": "n", "fingerprint": fingerprint, "config": {}}
        result = runs.submit.submit(job, **options)
        return result.folder.name, result.action

    def end(run_id, state):
        folder = runs.paths.folder_of(run_id)
        folder.set_status(state=state)
        folder.lora.write_bytes(b"weights")

    assert submit("a" * 64) == ("n-aaaaaaaa", "started")
    end("n-aaaaaaaa", "cancelled")
    assert submit("a" * 64) == ("n-aaaaaaaa", "resumed")
    end("n-aaaaaaaa", "finished")
    assert submit("a" * 64) == ("n-aaaaaaaa", "finished")
    assert submit("a" * 64, restart=True) == ("n-aaaaaaaa-2", "started")
    end("n-aaaaaaaa-2", "failed")
    assert submit("a" * 64) == ("n-aaaaaaaa-2", "resumed")
    # The same first eight digits, another run: the old ones are not touched.
    assert submit("a" * 8 + "b" * 56) == ("n-aaaaaaaa-3", "started")
    end("n-aaaaaaaa-3", "finished")
    assert submit("a" * 64, restart=True) == ("n-aaaaaaaa-4", "started")
    end("n-aaaaaaaa-4", "finished")
    assert submit("a" * 64) == ("n-aaaaaaaa-4", "finished")
    assert submit("a" * 8 + "b" * 56) == ("n-aaaaaaaa-3", "finished")
    assert started == ["n-aaaaaaaa"] * 2 + ["n-aaaaaaaa-2"] * 2 + ["n-aaaaaaaa-3", "n-aaaaaaaa-4"]
    with pytest.raises(ValueError, match="is finished: there is nothing to resume"):
        runs.submit.resume(runs.paths.folder_of("n-aaaaaaaa"))


def test_waiting_for_a_stopping_run_does_not_block_other_runs(runs, folder, monkeypatch):
    """The submit lock is free while a cancelled worker saves its checkpoint."""
    folder.set_status(state="cancelled")
    free = []
    monkeypatch.setattr(runs.liveness, "is_cancelling", lambda _: len(free) < 2)  # until it was waited for twice
    monkeypatch.setattr(runs.submit, "enter", lambda _: None)
    sleep = time.sleep

    def look_and_sleep(seconds):
        free.append(not runs.locks.is_taken(runs.paths.runs_directory() / ".submit.lock"))
        sleep(0.01)

    monkeypatch.setattr(runs.submit.time, "sleep", look_and_sleep)
    assert runs.submit.resume(folder).action == "resumed"
    assert free == [True, True]


def test_resume_takes_the_new_memory_and_evaluation_settings(runs, monkeypatch):
    monkeypatch.setattr(runs.submit, "enter", lambda _: None)
    job = {"name": "n", "fingerprint": "a" * 64, "config": {"optimizer": {"batch_size": 0}}}
    folder = runs.submit.submit(job).folder
    folder.set_status(state="failed")
    assert runs.submit.submit({**job, "config": {"optimizer": {"batch_size": 1}}}).action == "resumed"
    stored = runs.stored.job(folder)
    assert stored["config"]["optimizer"]["batch_size"] == 1
    runs.signature.require(stored, folder.name, runs.signature.install_key())


@pytest.mark.parametrize(("kind", "there"), [("cuda", "2 GPUs"), ("mps", "1 GPUs")])
def test_more_processes_than_gpus_start_nothing(runs, comfy, monkeypatch, kind, there):
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: torch.device(kind))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(runs.submit, "enter", lambda _: None)

    def job(processes):
        return {"name": "n", "fingerprint": "a" * 64, "config": {"run": {"processes": processes}}}

    with pytest.raises(ValueError, match=f"processes is 3 with {there} that this ComfyUI sees: set it to"):
        runs.submit.submit(job(3))
    assert not list(runs.paths.runs_directory().glob("n-*"))
    folder = runs.submit.submit(job(1)).folder
    folder.set_status(state="failed")
    with pytest.raises(ValueError, match="processes is 3"):
        runs.submit.submit(job(3))
    assert runs.stored.job(folder)["config"]["run"]["processes"] == 1
    folder.set_status(state="finished")
    folder.lora.write_bytes(b"weights")
    assert runs.submit.submit(job(3)).action == "finished", "nothing is to be started"


def test_several_processes_do_not_wait_without_end_for_a_person(runs, monkeypatch):
    monkeypatch.setattr(runs.launch, "devices", lambda: ("cuda", 2))
    you = {"7": {"class_type": "MixGRPO_RewardYou", "inputs": {}}}
    made = {"name": "n", "fingerprint": "a" * 64, "graph": you, "config": {"run": {"processes": 2}}}
    for inputs in ({}, {"patience": 0}, {"patience": 3601}, {"patience": ["8", 0]}):
        you["7"]["inputs"] = inputs
        with pytest.raises(ValueError, match="give up after two hours: set its patience to 1 to 3600, or processes"):
            runs.launch.require_devices(made)
    you["7"]["inputs"] = {"patience": 3600}
    runs.launch.require_devices(made)


def test_settings_tell_runs_apart_only_where_they_change_the_training(runs, pack):
    config = pack.mixgrpo_engine.config

    def telling(**changes):
        made = config.TrainConfig()
        for path, value in changes.items():
            group, name = path.split("__")
            setattr(getattr(made, group), name, value)
        return runs.job.telling(made.as_dict())

    assert telling() == {}
    assert telling(rollout__batch_size=2, optimizer__batch_size=1, run__gradient_checkpointing=True) == {}
    assert telling(run__evaluate_every=1, run__evaluate_images=9, run__checkpoint_every=1) == {}
    assert telling(run__seed=1, rollout__eta=0.5) == {"run": {"seed": 1}, "rollout": {"eta": 0.5}}
    assert telling(run__negative_prompt="blurry", run__guidance=2.0) == {
        "run": {"negative_prompt": "blurry", "guidance": 2.0}
    }
    assert telling(adapter__dtype="bfloat16") == {"adapter": {"dtype": "bfloat16"}}


FIRST_DEFAULTS = {
    "steps": 25, "shift": 0.0, "transition": "flow_sde", "eta": 0.7, "cfg": 1.0, "group_size": 12,
    "prompts_per_iteration": 1, "shared_noise": True, "flash_ratio": 1.0, "tail_order": 1, "tail_variant": "midpoint",
    "window_strategy": "constant", "window_size": 4, "trained_share": 1.0, "window_stride": 1, "window_interval": 25,
    "window_max_start": -1, "window_wrap": False, "reward_mix": "advantages", "advantage_clip": 5.0,
    "surrogate": "clip", "clip_range": 1e-4, "kl_mask_threshold": 1e-6, "kl_weight": 0.0, "kl_space": "velocity",
    "learning_rate": 1e-4, "learning_rate_schedule": "constant", "weight_decay": 1e-4, "max_grad_norm": 1.0,
    "updates": 4, "ema_decay": 0.0, "rollout_batch_size": 0, "update_batch_size": 0,
}  # fmt: skip


@pytest.fixture
def made(runs, room):
    """`made(**inputs)`: the job of a Train node with these inputs beside those of the first release."""
    algorithm = room("mixgrpo_engine.config").TrainConfig()
    prompts = room("mixgrpo_engine.prompts").PromptSet(("a",), ())
    nodes = {"1": {"class_type": "L", "inputs": {}}, "2": {"class_type": "Train", "inputs": {"model": ["1", 0]}}}
    prompt = type("Prompt", (), {"has_node": nodes.__contains__, "get_node": nodes.__getitem__})
    widgets = {
        "iterations": 2, "seed": 0, "width": 64, "height": 64, "evaluate_every": 0, "evaluate_images": 1,
        "checkpoint_every": 1, "gradient_checkpointing": False, "mixed_precision": "no", "mode": "wait",
    }  # fmt: skip

    def make(**more):
        inputs = {"prompts": prompts, "algorithm": algorithm, "run_name": "n", **widgets, **more}
        return runs.job.make(prompt, "2", ["model"], **inputs)

    return make


def test_without_a_lora_node_the_algorithms_lora_is_trained(made, room):
    config, preset = room("mixgrpo_engine.config"), room("mixgrpo_engine.presets").preset
    for algorithm, alpha in ((config.TrainConfig(), 0.0), (preset("MixGRPO"), 64.0)):
        assert made(algorithm=algorithm)["config"]["adapter"]["alpha"] == alpha
    own = config.AdapterConfig(rank=8)
    assert made(algorithm=preset("MixGRPO"), lora=own)["config"]["adapter"] == dataclasses.asdict(own)


def test_a_run_of_the_first_release_keeps_its_fingerprint(made, room):
    """What tells it apart is written out: neither a new setting nor a preset's new value changes it."""
    assert made()["fingerprint"] == PLAIN
    changed = {"surrogate": "kl_mask", "flash_ratio": 0.4, "kl_space": "mean", "kl_weight": 0.04}
    (algorithm,) = room("nodes.algorithm").MixGRPOAlgorithm.execute("custom", **{**FIRST_DEFAULTS, **changed}).result
    assert made(algorithm=algorithm)["fingerprint"] == FLASH


def test_a_run_without_the_newer_widgets_is_the_run_with_their_defaults(made):
    """Jobs of API requests from before negative_prompt and guidance keep their identity."""
    old = made()
    assert made(negative_prompt="", guidance=0.0)["fingerprint"] == old["fingerprint"]
    assert old["config"]["run"]["negative_prompt"] == ""
    others = [made(negative_prompt="blurry"), made(guidance=2.5)]
    assert len({old["fingerprint"], *(other["fingerprint"] for other in others)}) == 3
    assert others[0]["config"]["run"]["negative_prompt"] == "blurry" and others[1]["config"]["run"]["guidance"] == 2.5
    with pytest.raises(ValueError, match="guidance is nan: it must be 0 to 100"):
        made(guidance=float("nan"))


@pytest.fixture
def submitted(runs, room, monkeypatch):
    """`submitted(iterations)` submits that job; `submitted.started` names the runs that got a worker."""
    monkeypatch.setattr(runs.submit, "enter", lambda folder: submit.started.append(folder.name))
    nodes = {"1": {"class_type": "L", "inputs": {}}, "2": {"class_type": "Train", "inputs": {"model": ["1", 0]}}}
    prompt = type("Prompt", (), {"has_node": nodes.__contains__, "get_node": nodes.__getitem__})
    prompts = room("mixgrpo_engine.prompts").PromptSet(("a",), ())

    def job(iterations, schedule="constant", **changes):
        algorithm = room("mixgrpo_engine.config").TrainConfig()
        algorithm.optimizer.schedule = schedule
        widgets = {"iterations": iterations, "seed": 0, "evaluate_every": 0, **changes}
        return runs.job.make(prompt, "2", ["model"], prompts=prompts, algorithm=algorithm, run_name="n", **widgets)

    def submit(*args, restart=False, **changes):
        return runs.submit.submit(job(*args, **changes), restart)

    submit.started, submit.job = [], job
    return submit


def end(folder, state="finished", saved=2):
    folder.set_status(state=state)
    folder.lora.write_bytes(b"weights")
    (folder.checkpoints / f"{saved:06d}").mkdir(exist_ok=True)


def test_a_finished_run_is_extended_by_more_iterations(runs, submitted):
    first = submitted(2)
    end(first.folder)
    longer = submitted(5)
    assert (longer.folder.name, longer.action) == (first.folder.name, "resumed")
    assert longer.note == "Went on from the 2 iterations that the run had before."
    assert runs.stored.job(first.folder)["config"]["run"]["iterations"] == 5
    runs.signature.require(runs.stored.job(first.folder), first.folder.name, runs.signature.install_key())
    end(first.folder)
    # The longer graph is this run's now, and the shorter one would be another training.
    again, once_more = submitted(5), submitted(9)
    assert (again.folder.name, again.action, again.note) == (first.folder.name, "finished", "")
    assert (once_more.folder.name, once_more.action) == (first.folder.name, "resumed")
    end(first.folder)
    shorter = submitted(2)
    assert (shorter.folder.name, shorter.action) == (f"{first.folder.name}-2", "started")
    assert submitted.started == [first.folder.name] * 3 + [shorter.folder.name]


def test_a_run_goes_on_from_its_newest_checkpoint_or_stays_as_it_is(submitted):
    first = submitted(4)
    end(first.folder, "cancelled", saved=3)
    (first.folder.checkpoints / ".000004.tmp").mkdir()
    assert submitted(5).note == "Went on from the 3 iterations that the run had before."
    end(first.folder)
    for path in first.folder.checkpoints.iterdir():
        path.rmdir()
    job = first.folder.job.read_bytes()
    longer = submitted(9)
    assert (longer.folder.name != first.folder.name, longer.action) == (True, "started")
    assert longer.note.startswith(f"Run {first.folder.name} has the same settings, but no checkpoint to go on from")
    assert first.folder.job.read_bytes() == job and first.folder.status()["state"] == "finished"


def test_the_longest_of_several_goes_on(submitted):
    short, long = submitted(2), submitted(4, restart=True)
    end(short.folder), end(long.folder)
    assert short.folder.name != long.folder.name
    assert submitted(6).folder.name == long.folder.name
    end(long.folder)
    assert submitted(2).action == "finished" and submitted(3).folder.name == short.folder.name


@pytest.mark.parametrize("state", ["cancelled", "failed"])
def test_an_ended_run_goes_on_to_more_iterations(submitted, state):
    first = submitted(2)
    end(first.folder, state)
    assert (submitted(5).folder.name, submitted.started) == (first.folder.name, [first.folder.name] * 2)


def test_a_run_at_work_is_not_extended_behind_its_back(runs, submitted, monkeypatch):
    first = submitted(2)
    monkeypatch.setattr(runs.liveness, "is_alive", lambda _: True)
    first.folder.set_status(state="running")
    with pytest.raises(
        ValueError, match=f"Run {first.folder.name} has the same settings and is at work on its 2 itera"
    ):
        submitted(5)
    assert submitted(2).action == "reattached"


@pytest.mark.parametrize("before", [(), (2,)])
def test_a_sweep_over_iterations_makes_a_run_of_each(runs, submitted, before):
    for iterations in before:
        end(submitted(iterations).folder)  # the sweep's first one may go on with what was there

    def sweep():
        jobs = [(submitted.job(iterations), False) for iterations in (3, 6, 4)]
        return asyncio.run(runs.wait.submit_all(jobs, False, lambda *_: None))

    first, second = sweep(), sweep()
    assert [each.action for each in first] == ["resumed" if before else "started", "started", "started"]
    names = [each.folder.name for each in first]
    assert len(set(names)) == 3 and [each.folder.name for each in second] == names
    assert [runs.stored.job(each.folder)["config"]["run"]["iterations"] for each in second] == [3, 6, 4]


def test_another_setting_is_another_run(submitted):
    first = submitted(2)
    end(first.folder)
    for other in (submitted(5, seed=1), submitted(5, width=256)):
        assert (other.folder.name != first.folder.name, other.action, other.note) == (True, "started", "")


def test_a_falling_learning_rate_makes_another_run_and_says_so(submitted):
    first = submitted(2, "linear")
    end(first.folder)
    longer = submitted(5, "linear")
    assert (longer.folder.name != first.folder.name, longer.action) == (True, "started")
    assert longer.note.startswith(f"Run {first.folder.name} has the same settings and 2 iterations. Its learning rate ")
    assert longer.note.endswith("choose it in start_from of MixGRPO LoRA.")


def test_restart_never_extends(submitted):
    first = submitted(2)
    end(first.folder)
    assert submitted(5, restart=True).folder.name != first.folder.name


def test_jobs_keep_the_fingerprints_that_they_had(submitted):
    """Of the release before runs could be extended or begin from a file."""
    made = {each["fingerprint"][:16] for each in (submitted.job(2), submitted.job(300, "linear"))}
    assert made == {"2d639139b4811255", "021fb4f6fec47152"}


@pytest.fixture
def loras(comfy, tmp_path, monkeypatch):
    import folder_paths

    (tmp_path / "loras").mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path / "loras")], {".safetensors"}))
    return tmp_path / "loras"


def test_a_changed_start_is_another_run(runs, submitted, room, loras):
    def lora(**given):
        return room("nodes.algorithm").MixGRPOLoRA.execute(**given).result[0]

    file = loras / "a.safetensors"
    file.write_bytes(b"one")
    plain, none = submitted.job(2), submitted.job(2, lora=lora(start_from="none"))
    made = submitted.job(2, lora=lora(start_from="a.safetensors"))
    assert plain["fingerprint"] == none["fingerprint"] and "start_sha256" not in plain
    assert made["config"]["adapter"]["start_from"] == "a.safetensors"
    file.write_bytes(b"two")
    changed = submitted.job(2, lora=lora(start_from="a.safetensors"))
    assert len({each["fingerprint"] for each in (plain, made, changed)}) == 3
    room("nodes.model.start_lora").require_unchanged("a.safetensors", changed["start_sha256"])
    with pytest.raises(ValueError, match="'a.safetensors' has changed since this run began from it"):
        room("nodes.model.start_lora").require_unchanged("a.safetensors", made["start_sha256"])
    file.unlink()
    with pytest.raises(ValueError, match="isn't among ComfyUI's LoRAs"):
        submitted.job(2, lora=lora(start_from="a.safetensors"))


def test_targets_beside_a_start_are_refused(submitted, room, loras):
    (loras / "a.safetensors").write_bytes(b"one")
    node = room("nodes.algorithm").MixGRPOLoRA
    with pytest.raises(ValueError, match="targets or exclude is set: start_from takes all its layers from its file"):
        submitted.job(2, lora=node.execute(start_from="a.safetensors", targets="attn").result[0])
