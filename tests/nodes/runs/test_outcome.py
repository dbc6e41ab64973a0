"""What a run leaves: the reward curve, the sentence that it ended with, the LoRA."""

import json

import pytest


def test_curve_takes_the_later_value_of_a_repeated_iteration(runs, pack, folder):
    lines = [
        {"type": "iteration", "iteration": 1, "reward": {"a": 0.1, "b": None}},
        {"type": "iteration", "iteration": 2, "reward": {"a": 0.2}},
        {"type": "stage", "name": "resume"},
        {"type": "iteration", "iteration": 2, "reward": {"a": 0.3}},
        {"type": "evaluation", "iteration": 0, "reward": {"a": 0.5}, "strict": {}},
    ]
    assert runs.curve.draw(folder) is None
    folder.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    history = pack.mixgrpo_engine.records.events.read(folder.events)[0]
    assert runs.curve.series(history, "iteration") == {"a": [(1, 0.1), (2, 0.3)]}
    assert runs.curve.series(history, "evaluation") == {"a": [(0, 0.5)]}
    assert runs.curve.draw(folder).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("checkpoint, words", [(4, "its checkpoint holds 4 iterations"), (None, "before its first")])
def test_cancelled_run_speaks_of_its_checkpoint(runs, folder, checkpoint, words):
    folder.set_status(state="cancelled", iteration=99, checkpoint=checkpoint)
    sentence = runs.wait.ending(folder, "cancelled")
    assert words in sentence and "99" not in sentence


def test_lora_that_was_deleted_is_published_again_or_named(runs, folder):
    folder.set_status(state="finished")
    with pytest.raises(ValueError, match="is gone, also from its folder"):
        runs.published_lora.require_finished(folder)
    folder.lora.write_bytes(b"weights")
    runs.published_lora.require_finished(folder)
    assert runs.paths.lora_file(folder.name).read_bytes() == b"weights"
