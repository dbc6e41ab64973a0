"""`make demo`, cut short: what it leaves behind, and that Ctrl-C leaves nothing running."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest
from PIL import Image

from scripts.comfyui_server import ROOT


def demo(output, *arguments):
    return subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "scripts" / "demo.py"), "--output", str(output), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def processes_of(output):
    """Servers and workers that were started for this output folder."""
    return [
        process.info["pid"]
        for process in psutil.process_iter(["pid", "cmdline"])
        if any(str(output) in part for part in process.info["cmdline"] or ()) and "demo.py" not in str(process.info)
    ]


def test_leaves_pictures_lora_and_report(tmp_path):
    process = demo(tmp_path, "--iterations", "1", "--images", "1")
    text, _ = process.communicate(timeout=400)
    assert process.returncode == 0, text
    report = json.loads((tmp_path / "report.json").read_text())
    for measure in ("reward", "accuracy"):
        assert 0 <= report[f"{measure}_before"] <= 1 and 0 <= report[f"{measure}_after"] <= 1
        change = report[f"{measure}_difference"]
        assert change["low"] <= change["mean"] <= change["high"]
        # Images are the same count on both sides, so the means' difference is the mean difference.
        assert change["mean"] == pytest.approx(report[f"{measure}_after"] - report[f"{measure}_before"], abs=1e-5)
    assert report["iterations"] == 1 and report["train_seconds"] > 0 and report["forwards"] > 0
    assert report["images_each"] == report["held_out_prompts"] >= 40 and report["seeds"]
    before, after, _ = (Image.open(tmp_path / f"{name}.png") for name in ("before", "after", "reward"))
    assert before.size == after.size and before.tobytes() != after.tobytes()
    assert (tmp_path / "lora.safetensors").stat().st_size > 10_000
    assert processes_of(tmp_path) == []


def test_ctrl_c_ends_server_and_worker_and_keeps_the_checkpoint(tmp_path):
    process = demo(tmp_path, "--iterations", "10000")
    try:
        for line in process.stdout:
            if "iteration" in line:
                break
        pids = processes_of(tmp_path)
        assert len(pids) >= 2, "server and worker are at work"
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode != 0 and "run it again to go on" in text
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(tmp_path) == []
    assert list(tmp_path.glob("comfyui/output/mixgrpo/*/checkpoints/0*/adapter.safetensors"))
