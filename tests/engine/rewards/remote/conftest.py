"""What judges and other scorers behind HTTP have in common is tested with both."""

from dataclasses import dataclass

import pytest

from tests.engine.rewards.judge import judges
from tests.engine.rewards.remote import scorers


@dataclass
class Remote:
    who: str
    made: object
    same: object
    brightness: object


@pytest.fixture(params=["judge", "scorer"])
def remote(request):
    """How a reward is made that asks for the brightness of one picture a request, and what answers it."""
    module = {"judge": judges, "scorer": scorers}[request.param]
    return Remote(request.param, module.made, module.same, module.brightness)
