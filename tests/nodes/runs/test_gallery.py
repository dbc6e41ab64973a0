"""Sample images and the report: only the run's own files, and data is text."""

import json
from html.parser import HTMLParser

import pytest

EVIL = "<img src=x onerror=alert(1)>\"'</title><script>"


@pytest.fixture
def sampled(runs, folder):
    """A run with images of three evaluations, all of its texts a stranger's."""
    lines = [{"type": "iteration", "iteration": n, "reward": {EVIL: n / 9}, "window": [0, 1]} for n in range(1, 4)]
    for iteration in (0, 2, 3):
        place = folder.samples / f"{iteration:06d}"
        place.mkdir()
        for number in range(2):
            (place / f"{number:02d}.webp").write_bytes(b"RIFF%d%d" % (iteration, number))
        images = [
            {"file": f"samples/{iteration:06d}/{number:02d}.webp", "prompt": EVIL, "seed": "9", "scores": {EVIL: 0.5}}
            for number in range(2)
        ]
        lines.append({"type": "sample", "iteration": iteration, "path": "x.png", "prompts": [], "images": images})
    lines.append({"type": "notice", "iteration": 1, "time": 1.0, "message": EVIL})
    folder.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder.set_status(state="finished", iteration=3, iterations=3, held_out_reward={EVIL: 0.5})
    runs.about.write(folder, {"name": EVIL, "note": EVIL})
    return folder


def samples(runs, folder):
    return runs.history.HISTORIES.ask(folder, runs.gallery.samples)


def test_images_that_are_still_there_oldest_first(runs, sampled):
    (sampled.samples / "000002" / "00.webp").unlink()
    found = samples(runs, sampled)
    assert [(each["iteration"], len(each["images"])) for each in found] == [(0, 2), (2, 1), (3, 2)]
    assert found[1]["images"][0] == {
        "view": {"filename": "01.webp", "subfolder": f"mixgrpo/{sampled.name}/samples/000002", "type": "output"},
        "prompt": EVIL, "seed": "9", "scores": {EVIL: 0.5},
    }  # fmt: skip
    for path in (sampled.samples / "000002").iterdir():
        path.unlink()
    assert [each["iteration"] for each in samples(runs, sampled)] == [0, 3]


@pytest.mark.parametrize(
    "file",
    ["../../secret.webp", "/etc/passwd", "samples/000000/../../../../secret.webp", "samples/000000/link.webp",
     "job.json", "samples/000007/00.webp", "samples\\000000\\00.webp", "samples/000000/", "", 5, None, ["a"]],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_no_images(runs, sampled, tmp_path, file):
    (tmp_path / "output" / "secret.webp").touch()
    (sampled.samples / "000000" / "link.webp").symlink_to(tmp_path / "output" / "secret.webp")
    (sampled.samples / "000007").symlink_to(sampled.samples / "000000")
    with open(sampled.events, "a") as log:
        log.write(json.dumps({"type": "sample", "iteration": 9, "images": [{"file": file}]}) + "\n")
    assert [each["iteration"] for each in samples(runs, sampled)] == [0, 2, 3]
    (sampled.samples / "group").mkdir()
    (sampled.samples / "group" / "group.json").write_text(json.dumps({"iteration": 1, "images": [{"file": file}]}))
    assert runs.gallery.group(sampled)["images"] == []


def test_the_newest_group(runs, folder):
    assert runs.gallery.group(folder) == {"images": []}
    place = folder.samples / "group"
    place.mkdir()
    (place / "000012_00.webp").touch()
    image = {"file": "samples/group/000012_00.webp", "rewards": {"a": 0.5}, "advantage": -1.0}
    told = {"iteration": 12, "prompt": "p", "window": [0, 4], "images": [image, 5]}
    (place / "group.json").write_text(json.dumps(told))
    view = {"filename": "000012_00.webp", "subfolder": f"mixgrpo/{folder.name}/samples/group", "type": "output"}
    image = {"view": view, "rewards": {"a": 0.5}, "advantage": -1.0}
    assert runs.gallery.group(folder) == {**told, "images": [image]}
    (place / "group.json").write_text("{")
    with pytest.raises(ValueError, match=r"group\.json is damaged"):
        runs.gallery.group(folder)


class Page(HTMLParser):
    """The tags and attributes of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text += data


def report(runs, folder):
    summary, job = runs.overview.summary(folder), runs.stored.job(folder)
    return runs.history.HISTORIES.ask(folder, lambda history: runs.report_page.make(folder, summary, job, history))


def test_the_report_holds_images_and_curve_and_all_data_as_text(runs, sampled):
    text = report(runs, sampled)
    page = Page(text)
    assert "script" not in page.tags and not [name for name, _ in page.attributes if name.startswith("on")]
    images = [value for name, value in page.attributes if name == "src"]
    assert len(images) == 6 and all(value.startswith("data:image/webp;base64,UklGR") for value in images)
    assert "polyline" in page.tags and "default-src 'none'" in text
    # Name twice, note, held-out score, curve twice, notice; 6 images with prompt and score.
    assert page.text.count(EVIL) >= 7 + 2 * 6
    assert not [value for name, value in page.attributes if name in ("href", "src") and not value.startswith("data:")]


def test_the_report_of_a_run_that_did_nothing(runs, folder):
    assert "No iteration was finished." in report(runs, folder)
    job = {**runs.stored.job(folder), "config": runs.job.TrainConfig().as_dict()}
    folder.job.write_text(json.dumps(job))
    assert "rollout.steps" in Page(report(runs, folder)).text
