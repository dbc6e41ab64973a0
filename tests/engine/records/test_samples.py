"""Single images on the disk: their size, their budget, and the newest training group."""

import json

import torch
from PIL import Image

from mixgrpo_engine.records import samples
from mixgrpo_engine.records.run_folder import RunFolder


def noise(count, height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


def test_images_are_what_they_were_and_large_ones_are_made_smaller(tmp_path):
    flat = torch.full((2, 2048, 1024, 3), 200, dtype=torch.uint8)
    flat[1] = 50
    paths = samples.save(flat, tmp_path / "000012")
    assert [path.name for path in paths] == ["00.webp", "01.webp"]
    for path, value in zip(paths, (200, 50), strict=True):
        image = Image.open(path)
        assert image.format == "WEBP" and image.size == (512, 1024)
        assert abs(image.convert("RGB").getpixel((100, 100))[0] - value) <= 2
    (small,) = samples.save(noise(1, 64, 48), tmp_path / "small")
    assert Image.open(small).size == (48, 64)


def of_iterations(folder, numbers, size=1000):
    for number in numbers:
        (folder / f"{number:06d}").mkdir(parents=True)
        (folder / f"{number:06d}" / "00.webp").write_bytes(b"x" * size)


def left(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_beyond_the_budget_iterations_in_between_go_evenly(tmp_path):
    (tmp_path / "iteration_000000.png").write_bytes(b"x" * 10_000)
    (tmp_path / "group").mkdir()
    for iteration in range(0, 1025, 8):  # as a run adds them
        of_iterations(tmp_path, [iteration])
        samples.thin_out(tmp_path, 10_000)
    kept = left(tmp_path)
    assert len(kept) == 10 and kept[0] == 0 and kept[-1] == 1024
    gaps = [b - a for a, b in zip(kept, kept[1:], strict=False)]
    assert max(gaps[:-1]) <= 2 * min(gaps[:-1]), gaps
    assert (tmp_path / "iteration_000000.png").exists() and (tmp_path / "group").exists()


def test_within_the_budget_nothing_goes_and_first_and_newest_stay_whatever_it_is(tmp_path):
    of_iterations(tmp_path, [0, 10, 20])
    samples.thin_out(tmp_path, 3000)
    assert left(tmp_path) == [0, 10, 20]
    samples.thin_out(tmp_path, 1)
    assert left(tmp_path) == [0, 20]


def test_the_newest_group_replaces_the_one_before_last(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    group = samples.NewestGroup(folder)
    for iteration in (1, 2, 3):
        rewards = {"a": [0.5, float("nan")], "b": [1.0, 2.0]}
        group.write(iteration, "up <b>", range(2, 6), noise(2, 600, 1200), rewards, [-1.0, 1.0])
    told = json.loads((folder.samples / "group" / "group.json").read_text())
    assert (told["iteration"], told["prompt"], told["window"]) == (3, "up <b>", [2, 6])
    assert told["images"] == [
        {"file": "samples/group/000003_00.webp", "rewards": {"a": 0.5, "b": 1.0}, "advantage": -1.0},
        {"file": "samples/group/000003_01.webp", "rewards": {"a": None, "b": 2.0}, "advantage": 1.0},
    ]
    assert Image.open(folder.path / told["images"][0]["file"]).size == (512, 256)
    found = sorted(path.name for path in (folder.samples / "group").glob("*.webp"))
    assert found == ["000002_00.webp", "000002_01.webp", "000003_00.webp", "000003_01.webp"]
    assert not group.due(), "one every few seconds"


def test_grids_have_a_budget_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "GRIDS_MB", 0.01)
    for iteration in range(0, 200, 10):
        of_iterations(tmp_path, [iteration])
        (tmp_path / f"iteration_{iteration:06d}.png").write_bytes(b"x" * 1000)
        samples.thin_out(tmp_path, 10**6)
    (tmp_path / "mine.png").touch()
    grids = sorted(path.name for path in tmp_path.glob("iteration_*.png"))
    assert len(grids) == 10 and (grids[0], grids[-1]) == ("iteration_000000.png", "iteration_000190.png")
    assert len(left(tmp_path)) == 20
