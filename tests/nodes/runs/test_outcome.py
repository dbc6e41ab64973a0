"""What a run leaves: the reward curve, the sentence that it ended with, the LoRA."""

import asyncio
import functools
import json

import pytest


def test_curve_takes_the_later_value_of_a_repeated_iteration(runs, folder):
    lines = [
        {"type": "iteration", "iteration": 1, "reward": {"a": 0.1, "b": None}},
        {"type": "iteration", "iteration": 2, "reward": {"a": 0.2}},
        {"type": "stage", "name": "resume"},
        {"type": "iteration", "iteration": 2, "reward": {"a": 0.3}},
        {"type": "evaluation", "iteration": 0, "reward": {"a": 0.5}, "strict": {}},
    ]
    assert runs.curve.draw(folder) is None
    folder.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    history = runs.history.History(folder)
    history.read_on()
    assert history.iterations.series("reward.a") == [(1, 0.1), (2, 0.3)]
    assert history.evaluations.series("reward.a") == [(0, 0.5)]
    assert runs.curve.draw(folder).read_bytes().startswith(b"\x89PNG")


@pytest.fixture(params=[0, 2])
def measured(request, runs, folder):
    """What the evaluations of a run without held-out prompts, and of one with two, have scored."""
    job = {**runs.stored.job(folder), "prompts": {"train": ["a"] * 9, "held_out": ["b"] * request.param}}
    folder.job.write_text(json.dumps(job))
    folder.events.write_text(json.dumps({"type": "evaluation", "iteration": 0, "reward": {"a": 0.5}}) + "\n")
    folder.set_status(state="finished", iteration=2, held_out_reward={"a": 0.5})
    folder.set_status(best={"iteration": 2, "score": 0.5, "lora": "x.safetensors"})
    return "held-out prompts" if request.param else "measured training prompts"


def test_nothing_is_called_held_out_that_is_trained_on(runs, room, folder, measured, monkeypatch):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    labels = []
    monkeypatch.setattr(
        FigureCanvasAgg, "print_png", lambda self, _: labels.extend(self.figure.axes[0].get_legend_handles_labels()[1])
    )
    with pytest.raises(FileNotFoundError):  # nothing is written
        runs.curve.draw(folder)
    assert labels == [f"a, {measured}"]
    summary = runs.overview.summary(folder)
    told = room("nodes.training").describe(summary, "finished").splitlines()
    assert told[1] == f"{measured.capitalize()}: a 0.5"
    assert told[2] == f"Best on {measured} after iteration 2 (0.500): x.safetensors"
    make = functools.partial(runs.report_page.make, folder, summary, runs.stored.job(folder))
    page = runs.history.HISTORIES.ask(folder, make)
    assert f"iteration 2 of 3, {measured}: a 0.5" in page and f"<title>a, {measured}</title>" in page
    assert page.count("held-out") == (3 if measured == "held-out prompts" else 0)


def test_a_finished_run_says_what_could_not_be_scored(runs, room, folder):
    last_words, run_status, events = (
        room(f"mixgrpo_engine.records.{name}") for name in ("last_words", "run_status", "events")
    )
    history = [
        {"type": "iteration", "iteration": 1, "reward": {"a": 0.1, "b": None, "c": None}},
        {"type": "iteration", "iteration": 2, "reward": {"a": 0.1, "b": None, "c": None}},
        {"type": "iteration", "iteration": 2, "reward": {"a": 0.2, "b": 0.5, "c": None}},
        {"type": "evaluation", "iteration": 2, "reward": {"a": 0.5, "b": None}},
    ]
    words = last_words.not_learned(history)
    assert words == (
        "The reward 'b' could score no image in 1 of 2 iterations: nothing was learned from it there. "
        "The reward 'c' could score no image of the run: nothing was learned from it. "
        "The last held-out images have no score by 'b'."
    )
    assert last_words.not_learned([history[0] | {"reward": {"a": 0.1}}]) == ""
    idle = {"type": "iteration", "iteration": 3, "reward": {"b": 0.5}, "updates": 0}
    told = last_words.not_learned([history[0] | {"updates": 0}, idle])
    assert "In 2 of 2 iterations no update" not in told and "In all 2 iterations no update was made" in told
    failed = {"type": "iteration", "iteration": 4, "reward": {"b": None}, "updates": 0}
    assert "In 1 of 2 iterations no update was made" in last_words.not_learned([idle, failed]), "that is said of b"
    done = events.Done(2, "x.safetensors", 1.0, words)
    nan = float("nan")
    folder.set_status(iteration=2, iterations=2, reward={"a": 0.2, "b": nan}, held_out_reward={"a": 0.5, "b": nan})
    folder.set_status(**run_status.fields_of(done, folder.status()))
    told = room("nodes.training").describe(runs.overview.summary(folder), "finished").splitlines()
    assert events.scores({"a": 0.2, "b": None}) == events.scores({"a": 0.2, "b": nan}) == "a 0.2, b without score"
    assert "a 0.2, b without score" in told[0]
    assert told[1] == "Measured training prompts: a 0.5, b without score" and told[-1] == words
    assert "b without score" in runs.wait.line(runs.stored.status(folder))


@pytest.mark.parametrize("checkpoint, words", [(4, "its checkpoint holds 4 iterations"), (None, "before its first")])
def test_cancelled_run_speaks_of_its_checkpoint(runs, folder, checkpoint, words):
    folder.set_status(state="cancelled", iteration=99, checkpoint=checkpoint)
    sentence = runs.wait.ending(folder, "cancelled")
    assert words in sentence and "99" not in sentence


def test_a_failure_begins_with_its_sentence_and_leaves_the_traceback_to_scripts(runs, folder, room):
    """In the browser the panel has it; a script has nothing but the message."""
    folder.emit(room("mixgrpo_engine.records.events").Failed("The red light went out.", "Traceback: line 7"))
    folder.set_status(state="failed", message="The red light went out.")
    short = f"Run {folder.name} failed: The red light went out.\nIts log: {folder.log}"
    assert runs.wait.ending(folder, "failed", in_browser=True) == short
    assert runs.wait.ending(folder, "failed") == f"{short}\n\nTraceback: line 7"
    folder.log.write_text("the last line\n")
    gone = runs.wait.ending(folder, "dead")
    assert gone == f"{runs.wait.ending(folder, 'dead', in_browser=True)}\n\nthe last line"


def test_a_run_that_was_cancelled_in_the_panel_ends_its_prompt_as_comfyuis_cancel_does(runs, folder):
    """An error's red frame would tell a person that something went wrong; a script is told what it was."""
    from comfy.model_management import InterruptProcessingException

    folder.set_status(state="cancelled", checkpoint=4)
    with pytest.raises(InterruptProcessingException):
        asyncio.run(runs.wait.wait_for([folder], in_browser=True))
    with pytest.raises(runs.wait.RunEnded, match="was cancelled, its checkpoint holds 4"):
        asyncio.run(runs.wait.wait_for([folder]))
    folder.set_status(state="failed", message="no light")
    with pytest.raises(runs.wait.RunEnded, match="no light"):
        asyncio.run(runs.wait.wait_for([folder], in_browser=True))


@pytest.mark.parametrize("state", ["cancelled", "failed"])
def test_a_run_that_went_on_and_was_stopped_keeps_the_lora_that_it_had_finished(runs, folder, state):
    folder.set_status(state="finished")
    folder.lora.write_bytes(b"weights")
    runs.published_lora.require_finished(folder)
    folder.set_status(state=state)
    runs.published_lora.require_finished(folder)
    folder.lora.unlink()  # of a deleted run of this name: this one never was finished
    with pytest.raises(ValueError, match=f"is {state}, not finished: queue its training again"):
        runs.published_lora.require_finished(folder)


def test_a_run_that_goes_on_gives_no_lora_meanwhile(runs, folder, monkeypatch):
    folder.set_status(state="finished")
    folder.lora.write_bytes(b"weights")
    runs.published_lora.require_finished(folder)
    monkeypatch.setattr(runs.liveness, "is_alive", lambda _: True)
    folder.set_status(state="running")
    with pytest.raises(ValueError, match="is running, not finished: put MixGRPO Wait between"):
        runs.published_lora.require_finished(folder)


def test_lora_that_was_deleted_is_published_again_or_named(runs, folder):
    folder.set_status(state="finished")
    with pytest.raises(ValueError, match="is gone, also from its folder"):
        runs.published_lora.require_finished(folder)
    folder.lora.write_bytes(b"weights")
    runs.published_lora.require_finished(folder)
    assert runs.paths.lora_file(folder.name).read_bytes() == b"weights"
