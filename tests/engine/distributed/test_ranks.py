"""Several real processes (gloo, on the CPU) train as one: same gradients, same files, same end."""

import functools
import shutil

import pytest
import torch

from mixgrpo_engine.distributed.ranks import Ranks
from tests.engine.distributed import ranks_job
from tests.engine.distributed.ranks_job import largest_difference, lasting, launch_jobs, results

NFT = {
    "rollout": {"shared_noise": False},
    "window": {"size": 0},
    "loss": {"surrogate": "nft", "old_decay": 0.3, "old_decay_growth": 0.2},
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    ranks_job.main(folder)
    return folder, results(folder, 1)[0]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """`together(count)`: a folder, exit code and output of that many processes, launched once.

    Under the folder: "run", the same run, "nft", one with an old policy, and "ended", which each count ends in its own
    way.
    """
    ends = {2: {"kill": [1, 2]}, 3: {"prompts": 1}}

    @functools.cache
    def of(count):
        folder = tmp_path_factory.mktemp("together")
        code, output = launch_jobs(
            count,
            {"folder": folder / "run"},
            {"folder": folder / "nft", "settings": NFT},
            {"folder": folder / "ended", **ends[count]},
        )
        return folder, code, output

    return of


@pytest.mark.parametrize("count", [2, 3])
def test_gradients_and_run_are_those_of_one_process(alone, together, count):
    """4 prompts on 3 processes: one of them has two."""
    folder, expected = alone
    launched, _, output = together(count)
    found = results(launched / "run", count, output)
    for result in found:
        assert result["outcome"] == "finished" and result["forwards"] == expected["forwards"]
        assert len(result["gradients"]) == len(expected["gradients"]) == 12
        for mine, theirs in zip(result["gradients"], expected["gradients"], strict=True):
            assert largest_difference(mine, theirs) < 1e-3
        assert largest_difference(result["gradients"][0], expected["gradients"][0]) < 1e-5
        assert all(torch.equal(value, found[0]["adapter"][name]) for name, value in result["adapter"].items())
    events, wanted = (lasting(path) for path in (launched / "run", folder))
    assert [event["type"] for event in events] == [event["type"] for event in wanted], "only one process tells"
    for event, other in zip(events, wanted, strict=True):
        if event["type"] in ("iteration", "evaluation"):
            assert event["reward"] == pytest.approx(other["reward"], rel=1e-4)
    assert {path.name for path in (launched / "run").iterdir()} == {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("count", [2, 3])
def test_an_old_policy_is_the_same_in_all_processes(tmp_path, together, count):
    ranks_job.main(tmp_path / "nft", settings=NFT)
    (expected,), (launched, _, output) = results(tmp_path / "nft", 1), together(count)
    found = results(launched / "nft", count, output)
    for result in found:
        for mine, theirs in zip(result["gradients"], expected["gradients"], strict=True):
            assert largest_difference(mine, theirs) < 1e-3
        assert all(torch.equal(value, found[0]["adapter"][name]) for name, value in result["adapter"].items())


def test_processes_wait_two_hours_for_each_other(together):
    """For a slow disk, or a judge; torch's own patience is half an hour, with NCCL ten minutes."""
    launched, _, output = together(2)
    assert [result["patience"] for result in results(launched / "run", 2, output)] == [7200.0, 7200.0]


def test_a_killed_process_ends_the_job_and_the_checkpoint_goes_on_with_any_number(tmp_path, alone, together):
    launched, code, output = together(2)
    assert code != 0 and "SIGKILL" in output, output
    killed, resumed, taken_over = launched / "ended", tmp_path / "resumed", tmp_path / "taken over"
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == ["000001", "000002"]
    for folder in (resumed, taken_over):
        shutil.copytree(killed, folder)

    code, output = launch_jobs(2, {"folder": resumed})
    assert code == 0, output
    straight, ended = results(launched / "run", 2)[0], results(resumed, 2)[0]
    assert len(ended["gradients"]) == len(straight["gradients"]) / 2, "it went on after its second iteration"
    assert all(torch.equal(value, straight["adapter"][name]) for name, value in ended["adapter"].items())

    ranks_job.main(taken_over)  # what two processes have saved, now in one
    (ended,) = results(taken_over, 1)
    assert len(ended["gradients"]) == len(straight["gradients"]) / 2
    for name, value in alone[1]["adapter"].items():
        torch.testing.assert_close(ended["adapter"][name], value, atol=1e-5, rtol=1e-3)


def test_an_error_in_one_process_ends_all_with_its_traceback(together):
    _, code, output = together(3)
    assert code != 0
    assert "prompts_per_iteration is 1 with 3 processes: each needs a prompt of its own" in output


@pytest.mark.parametrize("count,total", [(1, 5), (2, 5), (3, 4), (4, 4), (5, 13)])
def test_shares_are_neighbours_and_all_of_it(count, total):
    class One:
        num_processes, is_main_process = count, False

        def __init__(self, index):
            self.process_index = index

    shares = [Ranks(One(index)).share(total) for index in range(count)]
    assert [item for share in shares for item in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
