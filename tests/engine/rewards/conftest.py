"""Fixtures of the tests of judges and other scorers at other hosts."""

import contextlib

import pytest

from mixgrpo_engine.rewards.remote import client
from tests.fake_judge import fake_judge


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)


@pytest.fixture
def serve():
    """`serve(respond)` is a running fake server."""
    with contextlib.ExitStack() as stack:
        yield lambda respond: stack.enter_context(fake_judge(respond))
