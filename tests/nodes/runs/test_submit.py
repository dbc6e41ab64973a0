"""Which run a job becomes: a new one, one that goes on, or one that is finished."""

import time

import pytest
import torch


def test_submitting_decides_by_fingerprint_and_state(runs, monkeypatch):
    """Which run a job becomes; the process itself is not started here."""
    started = []
    monkeypatch.setattr(runs.submit, "launch", lambda folder: started.append(folder.name))

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
    monkeypatch.setattr(runs.submit, "launch", lambda _: None)
    sleep = time.sleep

    def look_and_sleep(seconds):
        free.append(not runs.locks.is_taken(runs.paths.runs_directory() / ".submit.lock"))
        sleep(0.01)

    monkeypatch.setattr(runs.submit.time, "sleep", look_and_sleep)
    assert runs.submit.resume(folder).action == "resumed"
    assert free == [True, True]


def test_resume_takes_the_new_memory_and_evaluation_settings(runs, monkeypatch):
    monkeypatch.setattr(runs.submit, "launch", lambda _: None)
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
    monkeypatch.setattr(runs.submit, "launch", lambda _: None)

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


def test_a_run_without_the_newer_widgets_is_the_run_with_their_defaults(runs, room):
    """Jobs of API requests from before negative_prompt and guidance keep their identity."""
    algorithm = room("mixgrpo_engine.config").TrainConfig()
    prompts = room("mixgrpo_engine.prompts").PromptSet(("a",), ())
    nodes = {"1": {"class_type": "L", "inputs": {}}, "2": {"class_type": "Train", "inputs": {"model": ["1", 0]}}}
    prompt = type("Prompt", (), {"has_node": nodes.__contains__, "get_node": nodes.__getitem__})
    widgets = {
        "iterations": 2, "seed": 0, "width": 64, "height": 64, "evaluate_every": 0, "evaluate_images": 1,
        "checkpoint_every": 1, "gradient_checkpointing": False, "mixed_precision": "no", "mode": "wait",
    }  # fmt: skip

    def made(**more):
        return runs.job.make(
            prompt, "2", ["model"], prompts=prompts, algorithm=algorithm, run_name="n", **widgets, **more
        )

    old = made()
    assert made(negative_prompt="", guidance=0.0)["fingerprint"] == old["fingerprint"]
    assert old["config"]["run"]["negative_prompt"] == ""
    others = [made(negative_prompt="blurry"), made(guidance=2.5)]
    assert len({old["fingerprint"], *(other["fingerprint"] for other in others)}) == 3
    assert others[0]["config"]["run"]["negative_prompt"] == "blurry" and others[1]["config"]["run"]["guidance"] == 2.5
    with pytest.raises(ValueError, match="guidance is nan: it must be 0 to 100"):
        made(guidance=float("nan"))
