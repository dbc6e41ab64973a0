"""What is told of the room that items take, once the first file shows it."""

from types import SimpleNamespace

import pytest


@pytest.fixture
def told(room, tmp_path, monkeypatch):
    """`told(bytes of the first file's eight items, bytes free)`: notices of a run of 100 items."""
    stage = room("nodes.worker.item_stage")
    stored = room("nodes.model.encodings").StoredEncodings(tmp_path, map(str, range(100)), of_items=True)
    notices = []
    loader = SimpleNamespace(reporter=SimpleNamespace(checkpoint=0, emit=lambda event: notices.append(event.message)))

    def make(size, free, done=8):
        with open(tmp_path / "000000.safetensors", "wb") as file:
            file.truncate(size)
        monkeypatch.setattr(stage.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        stage._check_room(loader, stored, done)
        return notices

    return make


def test_items_that_dont_fit_on_the_disk_are_refused_after_the_first_file(told):
    with pytest.raises(
        ValueError, match=r"conditionings of 100 items take 4 GB, and .* has 2 GB left: free some space"
    ):
        told(320_000_000, 2_000_000_000)


def test_much_is_told_and_little_is_not(told):
    assert told(8_000_000, 10**12) == []
    assert told(320_000_000, 10**12) == ["The items' conditionings take 4.0 GB on disk."]
    assert len(told(320_000_000, 10**12, done=16)) == 1  # once
