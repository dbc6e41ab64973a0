"""Downloads from a hub on this machine: whole, cut, wrong, offline, cancelled, two at a time."""

import hashlib
import shutil
import threading
from dataclasses import replace

import pytest

from mixgrpo_engine.rewards import __main__ as command
from mixgrpo_engine.rewards.files import catalog
from mixgrpo_engine.rewards.files.download import CHUNK, DownloadError, download
from tests.fake_hub import FakeHub

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several chunks
KEY = "people/taste/weights.pt"
FILE = catalog.KnownFile("taste.pt", "people/taste", "weights.pt", "main", len(CONTENT), "MIT")


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with FakeHub({KEY: CONTENT}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_complete(hub, tmp_path):
    steps = []
    path = download(FILE, tmp_path / "new folder", lambda done, total: steps.append((done, total)))
    assert path == tmp_path / "new folder" / "taste.pt"
    assert path.read_bytes() == CONTENT
    assert steps == sorted(steps) and steps[-1] == (len(CONTENT), len(CONTENT)) and len(steps) >= 5
    assert left(path.parent) == ["taste.pt"]


def test_a_file_that_is_there_is_left_alone(hub, tmp_path):
    (tmp_path / "taste.pt").write_bytes(b"mine")
    assert download(FILE, tmp_path).read_bytes() == b"mine"
    assert hub.ranges == []


def test_cut_connections_are_taken_up_again(hub, tmp_path):
    hub.cut = [2_000_000, 1_000_000]
    assert download(FILE, tmp_path).read_bytes() == CONTENT
    assert hub.ranges == ["bytes=0-", "bytes=2000000-", "bytes=3000000-"]


def test_dead_connection_ends_it_and_the_next_call_goes_on(hub, tmp_path):
    hub.cut = [3_000_000, 0]
    with pytest.raises(DownloadError, match="stopped after 3.0 MB of 5.1 MB .*queue again to go on"):
        download(FILE, tmp_path)
    assert [name.endswith(".part") for name in left(tmp_path)] == [True]
    assert download(FILE, tmp_path).read_bytes() == CONTENT
    assert hub.ranges[-1] == "bytes=3000000-"
    assert left(tmp_path) == ["taste.pt"]


def test_server_that_cannot_resume_sends_all_again(hub, tmp_path):
    hub.cut, hub.resumes = [3_000_000, 0], False
    with pytest.raises(DownloadError):
        download(FILE, tmp_path)
    assert download(FILE, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("known", [True, False], ids=["known hash", "the hub's hash"])
def test_wrong_content_is_removed(hub, tmp_path, known):
    hub.wrong = CONTENT[:-1] + b"!"
    file = replace(FILE, sha256=hashlib.sha256(CONTENT).hexdigest() if known else "")
    with pytest.raises(DownloadError, match="arrived damaged or isn't the known file .* it was removed"):
        download(file, tmp_path)
    assert left(tmp_path) == []


def test_hub_with_another_file_than_the_known_one_is_refused_at_once(hub, tmp_path):
    with pytest.raises(DownloadError, match="offers another people/taste/weights.pt"):
        download(replace(FILE, sha256="0" * 64), tmp_path)
    assert hub.ranges == []


def test_small_files_have_gits_own_hash(hub, tmp_path):
    hub.etag = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    assert download(FILE, tmp_path).read_bytes() == CONTENT
    hub.wrong = CONTENT[::-1]
    with pytest.raises(DownloadError, match="damaged"):
        download(replace(FILE, name="other.pt"), tmp_path)


def test_hub_without_a_hash_is_refused(hub, tmp_path):
    hub.etag = "W/anything"
    with pytest.raises(DownloadError, match="doesn't state size and hash"):
        download(FILE, tmp_path)


@pytest.mark.parametrize("value", ["1", "true", "ON"])
def test_offline(hub, tmp_path, monkeypatch, value):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        download(FILE, tmp_path)
    assert hub.ranges == [] and left(tmp_path) == []


def test_unknown_file_and_dead_hub(hub, tmp_path, monkeypatch):
    with pytest.raises(DownloadError, match=r"127.0.0.1:\d+ doesn't give people/taste/other.pt") as caught:
        download(replace(FILE, path="other.pt"), tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="127.0.0.1:9 doesn't give"):
        download(FILE, tmp_path)


def test_cancelled_between_chunks_and_gone_on_with(hub, tmp_path):
    class Cancelled(BaseException):
        pass

    done = 0

    def progress(now, _):
        nonlocal done
        done = now

    def check():
        if done > 2 * CHUNK:
            raise Cancelled

    with pytest.raises(Cancelled):
        download(FILE, tmp_path, progress, check)
    assert 2 * CHUNK < done < len(CONTENT)
    (part,) = tmp_path.iterdir()
    assert part.stat().st_size == done
    assert download(FILE, tmp_path).read_bytes() == CONTENT
    assert hub.ranges[-1] == f"bytes={done}-"


def test_full_disk_is_noticed_before(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(DownloadError, match="needs 205.1 MB of free space .*, where there are 1.0 MB"):
        download(FILE, tmp_path)
    assert hub.ranges == []


def test_two_at_a_time_fetch_once(hub, tmp_path):
    found, waiting = [], threading.Event()

    def first_progress(done, total):
        waiting.wait(20)

    first = threading.Thread(target=lambda: found.append(download(FILE, tmp_path, first_progress)))
    first.start()
    while not hub.ranges:
        pass
    second = threading.Thread(target=lambda: found.append(download(FILE, tmp_path, check=waiting.set)))
    second.start()  # it waits for the first, which waits until it does
    first.join(30)
    second.join(30)
    assert found == [tmp_path / "taste.pt"] * 2
    assert found[0].read_bytes() == CONTENT
    assert hub.ranges == ["bytes=0-"]


def test_command(hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(catalog, "FILES", (FILE,))
    assert command.main(["download", "taste.pt", str(tmp_path)]) == 0
    assert (tmp_path / "taste.pt").read_bytes() == CONTENT
    assert "5.1 MB, MIT" in capsys.readouterr().out
    assert command.main(["download", "nothing.pt", str(tmp_path)]) == 1
    assert "'nothing.pt' isn't a known file: choose one of taste.pt" in capsys.readouterr().err
