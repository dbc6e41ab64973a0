"""Several real processes (gloo, on the CPU) train as one: same gradients, same files, same end."""

import functools
import shutil

import pytest
import torch

from mixgrpo_engine.distributed.ranks import Ranks
from mixgrpo_engine.records.events import read
from tests.engine.distributed import ranks_job
from tests.engine.distributed.ranks_job import largest_difference, launch_job, results


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    ranks_job.main(folder, 4)
    return folder, results(folder, 1)[0]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """`together(count)`: the folder of the same run in that many processes, launched once."""

    @functools.cache
    def of(count):
        folder = tmp_path_factory.mktemp("together") / "run"
        code, output = launch_job(count, folder, iterations=4)
        assert code == 0, output
        return folder

    return of


@pytest.mark.parametrize("count", [2, 3])
def test_gradients_and_run_are_those_of_one_process(alone, together, count):
    """4 prompts on 3 processes: one of them has two."""
    folder, expected = alone
    found = results(together(count), count)
    for result in found:
        assert result["outcome"] == "finished" and result["forwards"] == expected["forwards"]
        assert len(result["gradients"]) == len(expected["gradients"]) == 12
        for mine, theirs in zip(result["gradients"], expected["gradients"], strict=True):
            assert largest_difference(mine, theirs) < 1e-3
        assert largest_difference(result["gradients"][0], expected["gradients"][0]) < 1e-5
        assert all(torch.equal(value, found[0]["adapter"][name]) for name, value in result["adapter"].items())
    events, wanted = (read(path / "events.jsonl")[0] for path in (together(count), folder))
    assert [event["type"] for event in events] == [event["type"] for event in wanted], "only one process tells"
    for event, other in zip(events, wanted, strict=True):
        if event["type"] in ("iteration", "evaluation"):
            assert event["reward"] == pytest.approx(other["reward"], rel=1e-4)
    assert {path.name for path in together(count).iterdir()} == {path.name for path in folder.iterdir()}


def test_a_killed_process_ends_the_job_and_the_checkpoint_goes_on_with_any_number(tmp_path, alone, together):
    killed, taken_over = tmp_path / "killed", tmp_path / "taken over"
    code, output = launch_job(2, killed, iterations=4, kill=[1, 2])
    assert code != 0 and "SIGKILL" in output, output
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == ["000001", "000002"]
    shutil.copytree(killed, taken_over)

    code, output = launch_job(2, killed, iterations=4)
    assert code == 0, output
    resumed, straight = (results(folder, 2)[0] for folder in (killed, together(2)))
    assert len(resumed["gradients"]) == len(straight["gradients"]) / 2, "it went on after its second iteration"
    assert all(torch.equal(value, straight["adapter"][name]) for name, value in resumed["adapter"].items())

    ranks_job.main(taken_over, 4)  # what two processes have saved, now in one
    (ended,) = results(taken_over, 1)
    assert len(ended["gradients"]) == len(straight["gradients"]) / 2
    for name, value in alone[1]["adapter"].items():
        torch.testing.assert_close(ended["adapter"][name], value, atol=1e-5, rtol=1e-3)


def test_an_error_in_one_process_ends_all_with_its_traceback(tmp_path):
    code, output = launch_job(2, tmp_path / "run", iterations=4, prompts=1)
    assert code != 0
    assert "prompts_per_iteration is 1 with 2 processes: each needs a prompt of its own" in output


@pytest.mark.parametrize("count,total", [(1, 5), (2, 5), (3, 4), (4, 4), (5, 13)])
def test_shares_are_neighbours_and_all_of_it(count, total):
    class One:
        num_processes, is_main_process = count, False

        def __init__(self, index):
            self.process_index = index

    shares = [Ranks(One(index)).share(total) for index in range(count)]
    assert [item for share in shares for item in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
