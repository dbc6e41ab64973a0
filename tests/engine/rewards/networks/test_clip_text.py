"""Tokens against both libraries, and what is remembered."""

import pytest
import torch
import transformers
from transformers import CLIPTokenizer

from mixgrpo_engine.rewards.networks import clip_text
from mixgrpo_engine.rewards.networks.clip_text import TextMemory, Tokenizer
from tests.engine.rewards import tiny_clips as tiny


@pytest.fixture(scope="module")
def folder(comfyui_dir):
    return comfyui_dir / "comfy" / "sd1_tokenizer"


def up_to_the_end(row):
    row = row.tolist()
    return row[: row.index(49407) + 1]


def test_tokens_of_transformers(folder):
    published = CLIPTokenizer.from_pretrained(folder)(tiny.PROMPTS, truncation=True, max_length=77)["input_ids"]
    tokens = Tokenizer(folder)(tiny.PROMPTS, 77)
    assert tokens.shape == (len(tiny.PROMPTS), 77)
    assert [up_to_the_end(row) for row in tokens] == published


def test_tokens_of_open_clip(folder):
    from open_clip import SimpleTokenizer

    published = SimpleTokenizer()(tiny.PROMPTS, context_length=77)
    tokens = Tokenizer(folder, clean=True)(tiny.PROMPTS, 77)
    assert [up_to_the_end(row) for row in tokens] == [up_to_the_end(row) for row in published]
    if int(transformers.__version__.partition(".")[0]) > 4:  # version 4 cleans by itself where ftfy is installed
        assert not torch.equal(tokens, Tokenizer(folder)(tiny.PROMPTS, 77))


def test_a_long_prompt_keeps_its_end(folder):
    tokens = Tokenizer(folder)(["a cat " * 100, "a cat"], 20)
    assert tokens.shape == (2, 20) and tokens[0, -1] == 49407 and (tokens[0, :-1] != 49407).all()
    assert tokens[1].tolist() == [49406, 320, 2368] + [49407] * 17


def test_no_longer_than_needed(folder):
    assert Tokenizer(folder)(["a cat", "a"], 77).shape == (2, 4)


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no vocab.json in .*: it must hold the tokenizer of a CLIP"):
        Tokenizer(tmp_path)


class Letters:
    """Encodes a prompt as its length, and notes what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, prompts):
        self.asked.append(prompts)
        return torch.tensor([[float(len(prompt))] for prompt in prompts])


def test_each_prompt_is_encoded_once():
    letters = Letters()
    memory = TextMemory(letters)
    assert memory(["a", "bb", "a", "a"]).tolist() == [[1], [2], [1], [1]]
    assert memory(["ccc", "bb"]).tolist() == [[3], [2]]
    assert letters.asked == [["a", "bb"], ["ccc"]]


def test_the_longest_unseen_is_forgotten(monkeypatch):
    monkeypatch.setattr(clip_text, "REMEMBERED", 2)
    letters = Letters()
    memory = TextMemory(letters)
    memory(["a", "bb"])
    memory(["a"])
    memory(["ccc"])  # bb goes
    letters.asked.clear()
    assert memory(["a", "ccc"]).tolist() == [[1], [3]] and letters.asked == []
    memory(["bb"])
    assert letters.asked == [["bb"]]


def test_more_prompts_than_are_remembered(monkeypatch):
    monkeypatch.setattr(clip_text, "REMEMBERED", 2)
    assert TextMemory(Letters())(["a", "bb", "ccc", "a"]).tolist() == [[1], [2], [3], [1]]
