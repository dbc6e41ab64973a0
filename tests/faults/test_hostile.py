"""A short version of `make faults`: requests that nobody should make, and graphs that nobody should queue."""

import asyncio
import random

import pytest

from tests.faults import graphs, hostile, requests


@pytest.fixture(scope="module")
def running(comfyui_dir, tmp_path_factory):
    place = tmp_path_factory.mktemp("hostile")
    with hostile.server(place, {"stub": requests.STUB}) as server:
        yield server
        hostile.require_quiet_log(server)
        hostile.require_nothing_outside(place, server)


def test_requests_are_answered_in_json_and_none_by_a_500(running):
    requests.prepare(running)
    statuses = asyncio.run(requests.ask(running, 400, random.Random(14)))
    assert statuses[200] and statuses[400] and statuses[404] and statuses[409]


def test_graphs_are_refused_in_a_sentence(running):
    kinds = graphs.ask(running, 80, random.Random(14))
    assert kinds["executed"] and kinds["refused"] and kinds["invalid"]


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (500, "{}", "500"),
        (200, '{"a": NaN}', "browsers"),
        (200, "hello", "JSON"),
        (400, '{"error": "Traceback (most recent call last)"}', "traceback"),
        (409, '{"error": ""}', "names no error"),
        (200, '{"runs": []}', ""),
    ],
)
def test_a_bad_answer_is_found(status, text, words):
    found = requests.complaint(status, text, is_route=True)
    assert words in found and bool(words) == bool(found)


@pytest.mark.parametrize(
    ("node", "kind", "message", "is_bad"),
    [
        ("MixGRPO_Score", "KeyError", "'images'", True),
        ("MixGRPO_Score", "json.decoder.JSONDecodeError", "Expecting value", True),
        ("MixGRPO_Score", "OSError", "[Errno 36] File name too long", True),
        ("MixGRPO_Score", "ValueError", "", True),
        ("MixGRPO_Score", "ValueError", "scores must be a list: connect one.", False),
        ("KSampler", "KeyError", "'images'", False),
    ],
)
def test_a_refusal_that_is_no_sentence_is_found(node, kind, message, is_bad):
    data = {"node_type": node, "exception_type": kind, "exception_message": message}
    assert bool(graphs.complaint(data)) is is_bad


def test_files_outside_are_found(tmp_path):
    class Server:
        base = comfyui = tmp_path / "a" / "base"

    (Server.base / "output").mkdir(parents=True)
    (Server.base / "output" / "x.png").touch()
    hostile.require_nothing_outside(tmp_path, Server)
    for path in (tmp_path / "a" / "x.png", Server.base / "models" / "x.png"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        with pytest.raises(AssertionError, match="x.png"):
            hostile.require_nothing_outside(tmp_path, Server)
        path.unlink()
