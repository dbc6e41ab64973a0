"""Trackers get curves, images and settings of a run; one that breaks costs a notice."""

import pytest
from accelerate import tracking

from mixgrpo_engine.records import trackers
from mixgrpo_engine.records.run_folder import RunFolder


class Recorder(tracking.GeneralTracker):
    """What accelerate's own trackers do, kept in a list."""

    name, requires_logging_directory, main_process_only = "tensorboard", True, False
    made: list = []
    breaks = ""

    def __init__(self, project, **options):
        super().__init__()
        self.project, self.options, self.seen, self.images, self.settings, self.ended = project, options, [], [], {}, 0
        self.made.append(self)

    tracker = None

    def start(self):
        self._break("start")

    def store_init_configuration(self, values):
        self.settings = values

    def log(self, values, step=None):
        self._break("log")
        self.seen.append((step, values))

    def log_images(self, values, step=None, **options):
        self.images.append((step, {name: images.shape for name, images in values.items()}, options))

    def finish(self):
        self._break("finish")
        self.ended += 1

    def _break(self, where):
        if self.breaks == where:
            raise ConnectionError("the server\nis away")


@pytest.fixture
def recorder(monkeypatch):
    kind = type("Fresh", (Recorder,), {"made": []})
    for name in ("tensorboard", "wandb"):
        monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, name, kind)
    return kind


def run(toy, path, names, iterations=4):
    settings, folder = toy.config(run={"iterations": iterations}), RunFolder(path)
    told = trackers.Trackers(names, folder, settings.as_dict(), folder.emit)
    trainer = toy.make(path, settings, after=told)
    assert trainer.run() == "finished"
    return trainer


def test_curves_images_and_settings_reach_a_tracker(toy, tmp_path, recorder):
    trainer = run(toy, tmp_path / "red", ["tensorboard"])
    (made,) = recorder.made
    assert made.project == "red" and made.options["logging_dir"] == tmp_path / "red" / "tensorboard"
    assert made.settings["rollout.steps"] == 6 and made.settings["window.strategy"] == "constant"
    told = {step: {} for step, _ in made.seen}
    for step, values in made.seen:
        told[step] |= values
    assert sorted(told) == [0, 1, 2, 3, 4]
    last = toy.events(trainer, "iteration")[-1]
    assert told[4]["reward/toy"] == last["reward"]["toy"] and told[4]["train/loss"] == last["loss"]
    assert told[4]["seconds/total"] == last["seconds"]["total"] and "train/kl" not in told[4], "no KL was asked for"
    assert [told[step]["held_out/toy"] for step in (0, 4)] == [
        event["reward"]["toy"] for event in toy.events(trainer, "evaluation")
    ]
    assert [(step, options) for step, _, options in made.images] == [
        (0, {"dataformats": "NHWC"}), (4, {"dataformats": "NHWC"})
    ]  # fmt: skip
    assert all(shape[0] == 1 and shape[3] == 3 for _, images, _ in made.images for shape in images.values())
    assert made.ended == 1


@pytest.mark.parametrize("where", ["start", "log", "finish"])
def test_a_broken_tracker_costs_a_notice(toy, tmp_path, recorder, where):
    recorder.breaks = where
    trainer = run(toy, tmp_path / "red", ["tensorboard"])
    (notice,) = toy.events(trainer, "notice")
    assert notice["message"] == "The tracker tensorboard broke (the server). The run goes on without it."


def test_one_that_breaks_leaves_the_other_alone(toy, tmp_path, recorder, monkeypatch):
    monkeypatch.setitem(
        tracking.LOGGER_TYPE_TO_CLASS, "wandb", type("Broken", (recorder,), {"breaks": "log", "made": []})
    )
    run(toy, tmp_path / "red", ["wandb", "tensorboard"], iterations=1)
    (sound,) = recorder.made
    assert sound.seen and sound.ended == 1


def test_a_missing_package_is_a_sentence(toy, tmp_path, recorder, monkeypatch):
    def start(self):
        import a_package_that_nobody_has  # noqa: F401

    monkeypatch.setattr(recorder, "start", start)
    trainer = run(toy, tmp_path / "red", ["wandb"], iterations=1)
    (notice,) = toy.events(trainer, "notice")
    assert notice["message"] == ("The tracker wandb isn't installed: pip install wandb. The run goes on without it.")


def test_wandb_stays_offline_unless_the_owners_environment_says_so(toy, tmp_path, recorder, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run(toy, tmp_path / "red", ["wandb"], iterations=1)
    monkeypatch.setenv("WANDB_MODE", "online")
    run(toy, tmp_path / "blue", ["wandb"], iterations=1)
    assert [(made.project, made.options["name"], made.options["mode"]) for made in recorder.made] == [
        ("mixgrpo", "red", "offline"), ("mixgrpo", "blue", "online")
    ]  # fmt: skip


def test_an_unknown_tracker_is_named():
    assert trackers.checked(["wandb", "tensorboard", "wandb"], "x") == ("wandb", "tensorboard")
    with pytest.raises(ValueError, match="The setting trackers names the tracker 'mlflow': choose tensorboard, wandb"):
        trackers.checked(["mlflow"], "The setting trackers")
