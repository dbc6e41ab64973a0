"""Part C: its ways give the same scores, take turns, and are summed up by hand."""

import pytest
import torch

from benchmarks import comfyui, scoring


@pytest.fixture(scope="module")
def tokenizer(comfy):
    return comfyui.clip_tokenizer()


def test_rounds(tokenizer, monkeypatch):
    calls = []

    class Noted(scoring.RandomClipScore):
        def score_batch(self, module, images, prompts):
            calls.append(len(images))
            return super().score_batch(module, images, prompts)

    monkeypatch.setattr(scoring, "RandomClipScore", Noted)
    samples = scoring.measure(tokenizer, rounds=2, images=3, pixels=40, layers=1)
    assert [list(sample["seconds"]) for sample in samples] == [
        [scoring.BATCHED, scoring.SINGLE, scoring.PUBLISHED],
        [scoring.SINGLE, scoring.PUBLISHED, scoring.BATCHED],
    ]
    assert all(seconds > 0 for sample in samples for seconds in sample["seconds"].values())
    assert calls == [3, 1, 1, 1] * 2 + [1, 1, 1, 3]  # the first four warm up


def test_ways_that_differ_are_refused():
    scores = {way: torch.zeros(3) for way in (scoring.BATCHED, scoring.SINGLE, scoring.PUBLISHED)}
    scoring._check_equal(scores)
    scores[scoring.PUBLISHED] = torch.tensor([0, 0, 0.2])
    with pytest.raises(ValueError, match="'published way, image by image' gives other scores than 'one batch'"):
        scoring._check_equal(scores)


def test_summary_by_hand():
    samples = [
        {"round": number, "seconds": {scoring.BATCHED: 2.0, scoring.SINGLE: single, scoring.PUBLISHED: 8.0}}
        for number, single in enumerate((2.0, 4.0, 6.0))
    ]
    batch, single, published = scoring.summarise(samples)
    assert batch["ratio"] == {"median": 1, "low": 1, "high": 1}
    assert single["seconds"] == {"median": 4, "low": 3, "high": 5}
    assert single["ratio"] == {"median": 2, "low": 1.5, "high": 2.5}
    assert published["ratio"]["median"] == 4
    assert scoring.summarise(samples[:1])[1]["ratio"] == {"median": 1, "low": 1, "high": 1}
