"""A short version of `make faults`: a killed training, or one on a full disk, goes on to the same LoRAs; votes stay."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each training is a fork of one process")
def test_killed_and_full_disks_go_on_bit_for_bit():
    short = ("--kills", "4", "--every", "100", "--vote-kills", "4")
    command = [sys.executable, "-m", "tests.faults", "operations", "kills", "votes", *short]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    told = done.stdout.splitlines()
    assert len(told) == 6 and all(line.endswith("no file left over.") for line in told[1:5])
    assert "none lost" in told[5]
