"""Downloads of weights, with the owner's leave only."""

import hashlib
from dataclasses import replace

import pytest

from tests.fake_hub import FakeHub

pytestmark = pytest.mark.usefixtures("models")

CONTENT = bytes(range(256)) * 20_000
VALUE = "download: taste.txt (5.1 MB, MIT)"


@pytest.fixture
def slot(room, weights):
    catalog = room("mixgrpo_engine.rewards.files.catalog")
    digest = hashlib.sha256(CONTENT).hexdigest()
    file = catalog.KnownFile("taste.txt", "people/taste", "words.txt", "main", len(CONTENT), "MIT", digest)
    return replace(weights.BERT_VOCAB, known=file)


@pytest.fixture
def hub(monkeypatch):
    with FakeHub({"people/taste/words.txt": CONTENT}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_a_graph_cannot_download_by_itself(room, weights, slot, hub, models):
    with pytest.raises(ValueError, match="this server's owner can allow its download by MIXGRPO_DOWNLOADS=1"):
        room("nodes.rewards.fetch").obtain(slot, VALUE)
    assert hub.ranges == [] and not list((models / weights.KEY).iterdir())


def test_download_with_leave_and_the_value_keeps_working(
    room, weights, slot, hub, models, monkeypatch, caplog, all_progress
):
    import comfy.utils

    steps = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda now, total, *_, **__: steps.append((now, total)))
    monkeypatch.setenv("MIXGRPO_DOWNLOADS", "1")
    obtain = room("nodes.rewards.fetch").obtain
    assert weights.choices(slot) == ["taste.txt", VALUE]
    assert weights.is_usable(slot, VALUE) is True
    with caplog.at_level("INFO"):
        path = obtain(slot, VALUE)
    assert path == models / weights.KEY / "taste.txt" and path.read_bytes() == CONTENT
    assert "taste.txt (5.1 MB, MIT) from https://huggingface.co/people/taste" in caplog.text
    assert steps[-1] == (100, 100) and steps == sorted(set(steps))
    # The stored value means the local file from now on, with or without leave.
    monkeypatch.delenv("MIXGRPO_DOWNLOADS")
    assert obtain(slot, VALUE) == path
    assert weights.choices(slot) == ["taste.txt"]
    assert len(hub.ranges) == 1


def test_interrupt_cancels_a_download(room, weights, slot, hub, models, monkeypatch, all_progress):
    import comfy.model_management
    import comfy.utils

    def hook(now, total, *_, **__):
        if now > 30:
            comfy.model_management.interrupt_current_processing(True)

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    monkeypatch.setenv("MIXGRPO_DOWNLOADS", "1")
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        room("nodes.rewards.fetch").obtain(slot, VALUE)
    (part,) = (models / weights.KEY).iterdir()
    assert part.suffix == ".part" and 0 < part.stat().st_size < len(CONTENT)
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", None)
    assert room("nodes.rewards.fetch").obtain(slot, VALUE).read_bytes() == CONTENT
