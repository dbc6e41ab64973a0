"""Images that are already there come to the vote: those of one prompt side by side, and from ComfyUI's folders only."""

import json

import pytest
from PIL import Image, PngImagePlugin

from tests.browser.written_runs import write_group

GRAPH = {
    "sampler": {"class_type": "KSampler", "inputs": {"positive": ["control", 0], "negative": ["no", 0], "seed": 1}},
    "control": {"class_type": "ControlNetApply", "inputs": {"conditioning": ["guidance", 0]}},
    "guidance": {"class_type": "FluxGuidance", "inputs": {"conditioning": ["yes", 0], "guidance": 3.5}},
    "yes": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["loader", 1]}},
    "no": {"class_type": "CLIPTextEncode", "inputs": {"text": "a dog", "clip": ["loader", 1]}},
}


@pytest.fixture
def pictures(room, runs, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    for folder in ("input", "output/drawn"):
        (tmp_path / folder).mkdir(parents=True)
    return room("nodes.votes.pictures")


@pytest.fixture
def votes(room, runs):
    return room("nodes.votes.sets").of_name("mine")


def graph(text):
    return {**GRAPH, "yes": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["loader", 1]}}}


def save(path, shade, about=None, size=(16, 16)):
    info = PngImagePlugin.PngInfo()
    if about is not None:
        info.add_text("prompt", about if isinstance(about, str) else json.dumps(about))
    Image.new("RGB", size, (shade, 0, 0)).save(path, pnginfo=info)


def test_the_prompt_is_the_positive_one_through_guidance_and_control(pictures):
    assert pictures.prompt_of(GRAPH) == "a cat"


@pytest.mark.parametrize(
    "graph",
    [
        None, [], "text", {"sampler": 3}, {"sampler": {"inputs": []}},
        {"sampler": {"inputs": {"positive": ["gone", 0]}}},
        {"sampler": {"inputs": {"positive": [["a"], 0]}}},
        {"sampler": {"inputs": {"positive": ["sampler", 0]}}},  # a circle
        {"sampler": {"inputs": {"positive": ["text", 0]}}, "text": {"inputs": {"text": ["link", 0]}}},
    ],
)  # fmt: skip
def test_a_graph_without_a_readable_prompt_has_none(pictures, graph):
    assert pictures.prompt_of(graph) == ""


def test_a_folder_gives_sheets_of_one_prompt_and_one_size(pictures, votes, tmp_path):
    folder = tmp_path / "output" / "drawn"
    for number in range(5):
        save(folder / f"cat{number}.png", number, graph("a cat"))
    for number in range(2):
        save(folder / f"dog{number}.png", number, graph("a dog"))
        save(folder / f"large{number}.png", number, graph("a dog"), size=(32, 16))
    save(folder / "alone.png", 9, graph("alone"))
    save(folder / "damaged.png", 9, "{")
    (folder / "no_image.png").write_text("no image")
    added = pictures.add_folder(votes, "output", "drawn")
    assert sorted((sheet.prompt, len(sheet.images)) for sheet in added) == [("a cat", 5), ("a dog", 2), ("a dog", 2)]
    assert [sheet.id for sheet in pictures.add_folder(votes, "output", "drawn")] == [sheet.id for sheet in added]
    assert len(votes.read().sheets) == 3, "the same images are the same sheets"


@pytest.mark.parametrize(
    "subfolder", ["..", "../output/drawn", "/etc", "nowhere", "drawn/../..", "link", "x" * 300, "x/" * 4000, "a\0b"]
)
def test_folders_outside_and_missing_ones_are_refused(pictures, votes, tmp_path, subfolder):
    (tmp_path / "elsewhere").mkdir()
    for number in range(2):
        save(tmp_path / "elsewhere" / f"{number}.png", number)
        save(tmp_path / "output" / "drawn" / f"{number}.png", number)
    (tmp_path / "input" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="There is no folder"):
        pictures.add_folder(votes, "input", subfolder)
    assert not votes.log.exists()


def test_a_link_to_an_image_elsewhere_is_left_out(pictures, votes, tmp_path):
    for number in range(2):
        save(tmp_path / f"secret{number}.png", number)
        (tmp_path / "input" / f"{number}.png").symlink_to(tmp_path / f"secret{number}.png")
    with pytest.raises(ValueError, match="holds no two images"):
        pictures.add_folder(votes, "input", "")


def test_a_runs_newest_group_comes_with_its_prompt_and_its_run(pictures, votes, folder):
    (folder.path / "samples" / "group").mkdir(parents=True)
    write_group(folder.path, 7, "a prompt")
    added = pictures.add_group(votes, folder.name)
    assert [len(sheet.images) for sheet in added] == [4, 2]
    assert {(sheet.prompt, sheet.source) for sheet in added} == {("a prompt", folder.name)}


def test_the_group_that_somebody_looks_at_is_put_to_the_vote_or_none(pictures, votes, folder):
    (folder.path / "samples" / "group").mkdir(parents=True)
    write_group(folder.path, 7, "a prompt")
    seen = pictures.gallery.group(folder)["iteration"]
    write_group(folder.path, 8, "another")
    with pytest.raises(ValueError, match="has gone on to another group: look at the newest one"):
        pictures.add_group(votes, folder.name, seen)
    assert not votes.log.exists()
    assert {sheet.prompt for sheet in pictures.add_group(votes, folder.name, 8)} == {"another"}


@pytest.mark.parametrize("run_id", ["gone-run-12345678", "../votes", ""])
def test_a_run_without_a_group_is_refused(pictures, votes, run_id):
    with pytest.raises(ValueError, match="no group of images"):
        pictures.add_group(votes, run_id)
