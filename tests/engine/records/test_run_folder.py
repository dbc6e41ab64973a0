import json

import pytest

from mixgrpo_engine.records.run_folder import RunFolder


def test_status_is_merged_and_checked(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    assert folder.status() == {"state": "queued"}
    folder.set_status(state="running", iteration=3, reward={"a": float("nan")})
    folder.set_status(iteration=4)
    status = folder.status()
    assert (status["state"], status["iteration"], status["reward"]) == ("running", 4, {"a": None})
    with pytest.raises(ValueError, match="'asleep' is not a run state"):
        folder.set_status(state="asleep")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", json.dumps({"iteration": 1}), json.dumps({"state": 7})])
def test_a_damaged_status_is_named(tmp_path, content):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.status_file.write_text(content)
    with pytest.raises(ValueError, match="status.json is damaged"):
        folder.status()
