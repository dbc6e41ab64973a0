"""Kills whoever adds sheets to a set of votes and whoever votes on them, both at once, at random moments.

What was told as done must be there afterwards, in the order of its votes, and every sheet's images must open. Each is a
fork of this process, so that torch is imported once: Linux and macOS.
"""

import json
import os
import random
import signal
import time
import traceback
from pathlib import Path

import torch

from mixgrpo_engine.taste.votes import VoteSet
from tests.faults.kills import Disturbed

SHOWN, SIDE = 4, 48  # images of a sheet, and their pixels
LONGEST = 0.4  # seconds until both are killed


def random_moments(place: Path, kills: int, seed: int):
    """Tells in a line. Raises Disturbed at the first thing that is lost."""
    folder, draw, answers, sheets = place / "votes", random.Random(seed), {}, set()
    VoteSet(folder).add(torch.rand(SHOWN, SIDE, SIDE, 3), "the first")
    torn = 0
    for number in range(1, kills + 1):
        first = number * 10**6
        both = [_at_work(folder, work, first) for work in (_add, _vote)]
        time.sleep(draw.uniform(0.02, LONGEST))
        for pid, _ in both:
            os.kill(pid, signal.SIGKILL)
        for pid, pipe in both:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if code != -signal.SIGKILL:
                raise Disturbed(f"kill {number} (seed {seed}): its process ended with code {code} before it.")
            with os.fdopen(pipe) as told:
                for kind, sheet, order in (json.loads(line) for line in told if line.endswith("\n")):
                    sheets.add(sheet)
                    if kind == "vote":
                        answers[sheet] = tuple(map(tuple, order))
        torn += not (folder / "votes.jsonl").read_bytes().endswith(b"\n")
        _check(folder, sheets, answers, f"kill {number} (seed {seed})")
    if not answers:
        raise Disturbed(f"In {kills} kills (seed {seed}) nobody came to vote.")
    yield (
        f"{kills} kills of a voter and of who adds sheets (seed {seed}): {len(answers)} votes on {len(sheets)} sheets "
        f"told, none lost; {torn} kills tore a line."
    )


def _check(folder: Path, sheets: set, answers: dict, what: str) -> None:
    votes = VoteSet(folder)
    votes.add(torch.rand(SHOWN, SIDE, SIDE, 3), f"after {what}")  # a torn line takes nobody's with it
    state = votes.read()
    if lost := sheets - state.sheets.keys():
        raise Disturbed(f"{what}: {len(lost)} sheets are lost.")
    if lost := [sheet for sheet, order in answers.items() if state.answers.get(sheet) != order]:
        raise Disturbed(f"{what}: {len(lost)} votes are lost.")
    for sheet in list(state.sheets.values())[-20:]:
        for file in sheet.images:
            votes.picture(file)


def _at_work(folder, work, first):
    """(pid, a pipe with a line of JSON for everything that is done)"""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    try:
        work(VoteSet(folder), first, lambda *told: os.write(write, json.dumps(told).encode() + b"\n"))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _add(votes, first, tell):
    torch.manual_seed(first)
    while True:
        tell("sheet", votes.add(torch.rand(SHOWN, SIDE, SIDE, 3), "a prompt").id, None)


def _vote(votes, first, tell):
    draw = random.Random(first)
    while True:
        for sheet in votes.read().pending[:3]:
            best, worst, *others = draw.sample(range(SHOWN), SHOWN)
            order = [[best], others, [worst]]
            votes.vote(sheet.id, order)
            tell("vote", sheet.id, order)
        time.sleep(0.001)
