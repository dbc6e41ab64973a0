"""A run's encoded prompts in its folder: files of a few prompts, made one after another, read prompt by prompt."""

import gc

import pytest
import torch
from safetensors.torch import save_file

from tests.nodes.scoring.nested import same

PROMPTS = ["a red circle", "two green squares", "a blue triangle", "", "a yellow circle"]


@pytest.fixture
def store(room, tmp_path, monkeypatch):
    """`store(prompts)`: their StoredEncodings, two prompts a file, always in the same folder."""
    encodings = room("nodes.model.encodings")
    monkeypatch.setattr(encodings, "PROMPTS_A_FILE", 2)
    return lambda prompts=PROMPTS: encodings.StoredEncodings(tmp_path / "encodings", prompts)


@pytest.fixture
def encoded_texts(clip, monkeypatch):
    """What the text encoder is asked to encode, in order."""
    texts, tokenize = [], clip.tokenize
    monkeypatch.setattr(clip, "tokenize", lambda text: texts.append(text) or tokenize(text))
    return texts


class Stopped(Exception):
    pass


def stopping_at(number):
    def before_each(done):
        if done == number:
            raise Stopped

    return before_each


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_prompt_is_read_as_it_was_encoded(clip, conditioning, store):
    stored = store([*PROMPTS, PROMPTS[0]])
    assert stored.missing() == [0, 1, 2]
    stored.encode(clip)
    direct = conditioning.encode_prompts(clip, PROMPTS)
    assert stored.missing() == [] and len(stored) == len(PROMPTS)
    for prompt in PROMPTS:
        assert prompt in stored and same(stored[prompt], direct[prompt])
    assert names(stored.folder) == ["000000.safetensors", "000001.safetensors", "000002.safetensors"]
    assert "another" not in stored
    with pytest.raises(KeyError, match="'another' was not encoded"):
        stored["another"]


def test_nothing_stays_in_memory(clip, store):
    def tensors():
        gc.collect()
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    stored = store()
    before = tensors()
    stored.encode(clip)
    for prompt in PROMPTS:
        stored[prompt]
    assert tensors() == before


def test_before_each_prompt_the_number_of_all_before_it_is_told(clip, store):
    told = []
    store().encode(clip, told.append)
    assert told == [0, 1, 2, 3, 4]


def test_what_was_made_before_a_stop_is_not_made_again(clip, store, encoded_texts):
    with pytest.raises(Stopped):
        store().encode(clip, stopping_at(3))
    assert encoded_texts == PROMPTS[:3] and names(store().folder) == ["000000.safetensors"]
    encoded_texts.clear()
    told = []
    again = store()
    assert again.missing() == [1, 2]
    again.encode(clip, told.append)
    assert encoded_texts == PROMPTS[2:] and told == [2, 3, 4] and again.missing() == []
    encoded_texts.clear()
    store().encode(clip)
    assert encoded_texts == []


@pytest.mark.parametrize("damage", ["cut off", "other prompts", "foreign", "empty"])
def test_a_file_that_does_not_hold_its_prompts_is_made_again(clip, conditioning, store, damage):
    stored = store()
    stored.encode(clip)
    path = stored.folder / "000001.safetensors"
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:-8])
    elif damage == "other prompts":
        conditioning.save(conditioning.encode_prompts(clip, PROMPTS[:2]), path)
    elif damage == "foreign":
        save_file({"x": torch.zeros(1)}, path)
    else:
        path.write_bytes(b"")
    assert store().missing() == [1]
    store().encode(clip)
    assert store().missing() == []
    assert same(store()[PROMPTS[2]], conditioning.encode_prompts(clip, PROMPTS[2:3])[PROMPTS[2]])


def test_a_policy_takes_them(room, store, conditioning):
    tiny = room("nodes.tiny.tiny_model")
    real = room("nodes.tiny.text_encoder").load_clip(tiny.TEXT_ENCODER)
    stored = store(["a red circle", "two blue squares", ""])
    stored.encode(real)

    def velocity(encoded):
        policy = room("nodes.model.policy").ComfyPolicy(
            tiny.load_model(), tiny.load_vae(), encoded, width=64, height=64, cfg=2.0,
            adapter=room("mixgrpo_engine.config").AdapterConfig(rank=2), seed=0,
        )  # fmt: skip
        with torch.no_grad():
            return policy.module(policy.noise([0, 1]), 0.7, policy.condition(["two blue squares", "a red circle"]))

    assert torch.equal(velocity(stored), velocity(conditioning.encode_prompts(real, stored.prompts)))


class Worker:
    """The parts of a worker that encoding talks to."""

    checkpoint = 0

    def __init__(self, room, monkeypatch, stop_after=None):
        monkeypatch.setattr(room("mixgrpo_engine.training.pulse"), "PROGRESS_SECONDS", 0.0)
        self.events, self.looks, self.stop_after = [], 0, stop_after
        self.error = room("nodes.worker.errors").StopRequested

    def emit(self, event):
        self.events.append(event)

    def requested(self):
        return False

    def check(self):
        self.looks += 1
        if self.looks == self.stop_after:
            raise self.error

    def encode(self, room, clip, stored, tmp_path):
        folder = room("mixgrpo_engine.records.run_folder").RunFolder(tmp_path)
        job = {"graph": {"7": {"inputs": {}}}, "node_id": "7", "config": {"run": {"iterations": 5}}}
        room("nodes.worker.stages").Loader(job, folder, None, self, self)._encode(clip, stored)


def test_the_worker_tells_how_far_it_is(room, clip, store, tmp_path, monkeypatch):
    worker = Worker(room, monkeypatch)
    worker.encode(room, clip, store(), tmp_path)
    stage, *progress = [event.as_dict() for event in worker.events]
    assert stage["name"] == "encode" and "5 prompts" in stage["message"]
    assert [(e["type"], e["phase"], e["done"], e["total"], e["iterations"]) for e in progress] == [
        ("progress", "encode", done, 5, 5) for done in range(5)
    ]


def test_the_worker_stops_between_two_prompts(room, clip, store, tmp_path, monkeypatch, encoded_texts):
    worker = Worker(room, monkeypatch, stop_after=4)
    with pytest.raises(worker.error):
        worker.encode(room, clip, store(), tmp_path)
    assert encoded_texts == PROMPTS[:3] and store().missing() == [1, 2]


def test_the_line_under_the_node_counts_the_prompts(room):
    line = room("nodes.runs.wait").line
    status = {"state": "running", "stage": "encode", "message": "Encoding 9600 prompts."}
    assert line(status) == "Encoding 9600 prompts."
    assert line({**status, "phase": "encode", "phase_done": 120, "phase_total": 9600}).endswith(" 120 of 9600 done.")
    assert line({**status, "stage": "load", "phase": "encode", "phase_done": 1}) == "Encoding 9600 prompts."
