"""MixGRPO_SaveScored: PNG files with their scores inside."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.nodes.hidden_inputs import with_hidden
from tests.nodes.scoring.test_score import Red, greys

NAN = float("nan")
IMAGES = greys(0.5, 0.25, 0.75)
HIDDEN = {"prompt": {"1": {"class_type": "Some"}}, "extra_pnginfo": {"workflow": {"nodes": []}}}


@pytest.fixture
def save(room, tmp_path, monkeypatch):
    """`save(images, scores)`: [(file entry, PIL image)] in the order of the node's output."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))

    def run(*images, scores, prefix="scored", order="best first", hidden=HIDDEN):
        node = with_hidden(room("nodes.scoring.save_scored").MixGRPOSaveScored, **hidden)
        output = node.execute.__func__(node, list(images), scores, [prefix], [order])
        assert output.result[0] == list(images)
        files = output.ui["images"]
        return [(file, Image.open(tmp_path / "output" / file["subfolder"] / file["filename"])) for file in files]

    return run


def test_best_gets_the_lowest_number_and_each_file_its_own_scores(room, save):
    output = room("nodes.scoring.score").MixGRPOScore.execute([IMAGES], [Red()], ["a prompt"], [False]).result
    saved = save(IMAGES, scores=[output[2]], prefix="ranked/red")
    assert [file["filename"] for file, _ in saved] == [f"red_{number:05}_.png" for number in (1, 2, 3)]
    assert {(file["subfolder"], file["type"]) for file, _ in saved} == {("ranked", "output")}
    for rank, ((_, picture), place) in enumerate(zip(saved, (2, 0, 1), strict=True), 1):
        assert (np.asarray(picture) == int(255 * float(IMAGES[place, 0, 0, 0]))).all()
        assert json.loads(picture.text["mixgrpo_scores"]) == {
            "image": place, "prompt": "a prompt", "score": float(IMAGES[place, 0, 0, 0]), "rank": rank,
            "parts": {"red": float(IMAGES[place, 0, 0, 0])},
        }  # fmt: skip
        assert json.loads(picture.text["prompt"]) == HIDDEN["prompt"]
        assert json.loads(picture.text["workflow"]) == HIDDEN["extra_pnginfo"]["workflow"]
    again = save(IMAGES, scores=[output[2]], prefix="ranked/red")
    assert again[0][0]["filename"] == "red_00004_.png"


def test_bare_numbers_failures_and_the_given_order(save):
    saved = save(IMAGES, scores=[0.1, NAN, 0.3])
    assert [json.loads(picture.text["mixgrpo_scores"])["image"] for _, picture in saved] == [2, 0, 1]
    failed = json.loads(saved[-1][1].text["mixgrpo_scores"], parse_constant=pytest.fail)
    assert failed["score"] is None and failed["rank"] is None
    saved = save(IMAGES, scores=[-3.0, NAN, -1.0])
    assert [json.loads(picture.text["mixgrpo_scores"])["image"] for _, picture in saved] == [2, 0, 1]
    saved = save(IMAGES, scores=[0.1, NAN, 0.3], order="as they come")
    assert [json.loads(picture.text["mixgrpo_scores"])["image"] for _, picture in saved] == [0, 1, 2]


def test_without_a_browser_and_without_metadata(save, monkeypatch):
    from comfy.cli_args import args

    (_, picture), *_ = save(IMAGES, scores=[1.0, 2.0, 3.0], hidden={"prompt": {}, "extra_pnginfo": None})
    assert set(picture.text) == {"prompt", "mixgrpo_scores"}
    monkeypatch.setattr(args, "disable_metadata", True)
    scores = json.dumps({"images": [{"score": score, "prompt": "secret"} for score in (1.0, 2.0, 3.0)]})
    (_, picture), *_ = save(IMAGES, scores=[scores])
    assert set(picture.text) == {"mixgrpo_scores"} and "secret" not in picture.text["mixgrpo_scores"]
    assert json.loads(picture.text["mixgrpo_scores"])["score"] == 3.0


def test_pixels_are_save_images(save, tmp_path):
    import nodes

    images = torch.rand(2, 16, 24, 3, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    stock = nodes.SaveImage()
    stock.output_dir = str(tmp_path / "output")
    files = stock.save_images(images, "stock")["ui"]["images"]
    for (_, ours), file in zip(save(images, scores=[2.0, 1.0]), files, strict=True):
        theirs = Image.open(tmp_path / "output" / file["filename"])
        assert (np.asarray(ours) == np.asarray(theirs)).all() and ours.size == (24, 16)


def test_what_can_not_be_saved_is_one_sentence(save, tmp_path):
    with pytest.raises(ValueError, match="There are 2 scores for 3 images"):
        save(IMAGES, scores=[1.0, 2.0])
    for prefix in ("../../outside", "x" * 300, f"{'y' * 300}/x", "a/" * 600 + "x", "a\0b", "a\ud800"):
        with pytest.raises(ValueError, match="must be a name inside ComfyUI's output folder") as told:
            save(IMAGES, scores=[1.0, 2.0, 3.0], prefix=prefix)
        assert len(str(told.value)) < 400
    assert not list(tmp_path.rglob("*.png"))
