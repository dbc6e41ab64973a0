"""Prompts through a real CLIP, and their file."""

import pytest
import torch

from tests.nodes.scoring.nested import same

PROMPTS = ["a red circle", "two (green:1.4) squares", "", "a red circle"]


def test_encodings_are_those_of_clip_text_encode(clip, conditioning):
    encoded = conditioning.encode_prompts(clip, PROMPTS)
    assert len(encoded) == 3 and "" in encoded
    for prompt in PROMPTS:
        with torch.no_grad():
            expected = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
        assert same(encoded[prompt], expected)
    assert not same(encoded[PROMPTS[0]], encoded[PROMPTS[1]])


def test_each_prompt_is_encoded_once(clip, conditioning, monkeypatch):
    texts = []
    tokenize = clip.tokenize
    monkeypatch.setattr(clip, "tokenize", lambda text: texts.append(text) or tokenize(text))
    conditioning.encode_prompts(clip, PROMPTS)
    assert texts == PROMPTS[:3]


def test_encodings_made_inside_inference_mode_can_be_trained_with(clip, conditioning):
    with torch.inference_mode():
        encoded = conditioning.encode_prompts(clip, PROMPTS[:1])
    tokens = encoded[PROMPTS[0]][0][0]
    assert not tokens.is_inference() and not tokens.requires_grad


def test_the_file_round_trips(clip, conditioning, tmp_path):
    encoded = conditioning.encode_prompts(clip, PROMPTS)
    path = tmp_path / "prompts.safetensors"
    conditioning.save(encoded, path)
    assert same(conditioning.load(path).conditionings, encoded.conditionings)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_all_kinds_of_plain_values_round_trip(conditioning, tmp_path):
    tokens = torch.randn(1, 4, 8).to(torch.bfloat16)
    extras = {
        "pooled_output": None,
        "attention_mask": torch.ones(1, 4, dtype=torch.long),
        "guidance": 3.5,
        "flags": [True, 2, "three", {"four": tokens.transpose(1, 2)}],
        "same_memory": tokens,
    }
    encoded = conditioning.Encoded({'\u00fcber \u6f22\u5b57 "quoted"\n': [[tokens, extras]]})
    conditioning.save(encoded, tmp_path / "prompts.safetensors")
    assert same(conditioning.load(tmp_path / "prompts.safetensors").conditionings, encoded.conditionings)


def test_some_prompts_are_read_without_the_others(clip, conditioning, tmp_path):
    encoded = conditioning.encode_prompts(clip, PROMPTS)
    path = tmp_path / "prompts.safetensors"
    conditioning.save(encoded, path)
    some = conditioning.load(path, [PROMPTS[2], PROMPTS[0]])
    assert list(some.conditionings) == [PROMPTS[2], PROMPTS[0]] and same(some[PROMPTS[0]], encoded[PROMPTS[0]])
    assert conditioning.stored_prompts(path) == PROMPTS[:3]
    with pytest.raises(KeyError):
        conditioning.load(path, ["another"])


def test_a_value_that_cannot_be_stored_is_named(conditioning, tmp_path):
    encoded = conditioning.Encoded({"a cat": [[torch.zeros(1, 2, 3), {"hooks": object()}]]})
    with pytest.raises(ValueError, match="'hooks' of prompt 'a cat' is a object, which can't be stored"):
        conditioning.save(encoded, tmp_path / "prompts.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_file_is_refused(conditioning, tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    for read in (conditioning.load, conditioning.stored_prompts):
        with pytest.raises(ValueError, match="holds no encoded prompts"):
            read(tmp_path / "other.safetensors")


def test_a_missing_clip_is_named(conditioning):
    with pytest.raises(ValueError, match="There is no CLIP"):
        conditioning.encode_prompts(None, PROMPTS)
