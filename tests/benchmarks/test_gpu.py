"""`python -m benchmarks gpu`: tiny models on the CPU, the budget of its sections, the report, and what travels."""

import json
import os
import subprocess
import sys
import tarfile
import time

import pytest
import torch

from benchmarks.gpu import carry, command, report
from benchmarks.gpu.check import Check, Section

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@needs_no_gpu
def test_the_whole_check_with_tiny_models(comfy, tmp_path):
    assert command.main(["--tiny", "--results", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())["sections"]
    figures = {name: section["figures"] for name, section in found.items()}
    text = (tmp_path / "gpu.md").read_text()
    assert "Failed: nothing.\n\nLeft out: nothing." in text and all(f"\n## {name}\n" in text for name in found)

    for name in ("sd3.5_medium_bf16_512", "flux1-dev_fp8_512"):
        ratio = figures[name]["ratio before the first update"]
        assert ratio["clipped"] == 0 and ratio["of clip_range"] < 0.1
        assert [row["images"] for row in figures[name]["calls"]] == [1, 3]
        assert all(0.3 < row["update estimate / measured"] < 1.5 for row in figures[name]["calls"])
    forwards = {row["algorithm"]: row["image-forwards"] for row in figures["sd3.5_medium_bf16_512"]["iterations"]}
    # 4 images of 6 steps, all of one prompt; trained are 2 steps, or 3 and 5 of 5.
    assert forwards["DanceGRPO"] == (1 + 5 * 4) + 3 * 4 and forwards["Flow-GRPO"] == 6 * 4 + 5 * 4
    assert list(forwards) == ["MixGRPO-Flash*", "MixGRPO-Flash", "MixGRPO", "DanceGRPO", "Flow-GRPO"]

    calm, scarce = figures["out_of_memory"]["runs"]
    assert calm["notices"] == [] and scarce["notices"][0].startswith("Out of memory with 4 images a model call: going")
    assert figures["out_of_memory"]["relative difference of the gradients"] < 1e-2  # bf16, other batch sizes
    assert [row["deterministic"] for row in figures["resume"]["runs"]] == [False, True]
    assert all(row["two runs equal"] and row["resumed equal"] for row in figures["resume"]["runs"])
    bf16, fp8 = figures["gradient_to_float32"]["against float32"]
    assert bf16["1 - cosine"] < 1e-3 < fp8["1 - cosine"] < 0.1
    checkpointed, plain, resident, swapped = figures["switches"]["settings"]
    assert checkpointed["GB"] < plain["GB"] and plain["difference of the gradient"] < 1e-2
    assert swapped["difference of the gradient"] < 1e-2 and resident["setting"] == "swapped_blocks 0"
    assert all(row["finite"] for row in figures["families"]["families"])
    assert figures["diffusers_flux"]["mean |ratio - 1|"] < 1e-4


@pytest.fixture
def check(comfy):
    """`check(budget)` is a Check of full size on the CPU."""
    return lambda budget: Check(torch.device("cpu"), small=False, budget=budget)


def test_sections_cost_each_other_nothing(check):
    def broken(_check):
        """Fails."""
        raise ValueError("wrong | twice")

    def slow(_check):
        time.sleep(30)

    saved = []
    sections = [
        Section("broken", 10, broken), Section("slow", 0.02, slow), Section("long", 10_000, slow),
        Section("good", 1, lambda check: {"seven": 7}),
    ]  # fmt: skip
    found = check(300).run(sections, lambda done: saved.append(list(done)))
    assert found["broken"]["failed"] == "ValueError: wrong | twice" and "test_gpu.py" in found["broken"]["where"][-1]
    assert found["slow"]["failed"] == "It was ended after 0 s."
    assert found["long"]["left_out"].endswith("it takes about 10000 s.") and "figures" not in found["long"]
    assert found["good"]["figures"] == {"seven": 7}
    assert saved[1] == ["broken", "slow"] and len(saved) == 4

    text = report.text({"command": "a", "device": "b", "small": False, "sections": found})
    assert "Failed: broken, slow.\n\nLeft out: long." in text
    assert "## broken\n\nFails.\n\n**Failed** after " in text and " s: ValueError: wrong | twice\n" in text
    assert "- seven: 7" in text


def test_figures_in_words():
    assert [report.words(value) for value in (None, True, 0.123456, 12345.6, 7, ["a", "b"], {"x": 0.5})] == [
        "", "yes", "0.123", "12,346", "7", "a b", "x 0.5",
    ]  # fmt: skip
    assert report.words("a | b\nc") == "a / b c"


@needs_no_gpu
def test_without_a_gpu_it_says_so():
    assert command.main([]) == command.NO_GPU


def test_unknown_sections_are_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "machine,speed"])
    assert "there is no section 'speed': choose machine, " in capsys.readouterr().err


def test_what_travels_runs_by_one_command(comfyui_dir, tmp_path):
    run = carry.carry(tmp_path / "carried", comfyui_dir)
    archive = run.parent / carry.ARCHIVE
    assert archive.stat().st_size < carry.LARGEST
    with tarfile.open(archive) as packed:
        names = packed.getnames()
    assert not [name for name in names if "__pycache__" in name or name.startswith(("/", "."))]
    environment = {**os.environ, "OUT": str(tmp_path / "out"), "PYTHON": sys.executable}
    options = ("--tiny", "--only", "machine")
    done = subprocess.run(
        ["sh", str(run), *options], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the report is" in done.stdout and (tmp_path / "out" / "gpu.md").exists()


def test_too_much_to_travel_is_refused(comfyui_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "LARGEST", 1)
    monkeypatch.setattr(carry, "PACK", ("__init__.py",))
    monkeypatch.setattr(carry, "COMFYUI", ("main.py",))
    monkeypatch.setattr(carry, "PACKAGES", ())
    with pytest.raises(ValueError, match="MB is the most"):
        carry.carry(tmp_path, comfyui_dir)
    assert not list(tmp_path.iterdir())
