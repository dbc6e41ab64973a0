"""Ways in which people see a graph: two frontends, two kinds of canvas."""

import pytest

PAIRS = [(frontend, nodes2) for frontend in ("bundled", "newest") for nodes2 in (False, True)]
EVERYWHERE = pytest.mark.parametrize("nodes2", [False, True], ids=["canvas", "nodes2"], indirect=True, scope="module")
"""For tests that ask for `drawn`: in every one of the pairs."""
