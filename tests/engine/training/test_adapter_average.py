import copy

import pytest
import torch

from mixgrpo_engine.training.adapter_average import AdapterAverage


def test_follows_the_parameters_with_its_decay():
    parameter = torch.nn.Parameter(torch.zeros(3))
    average = AdapterAverage([parameter], 0.9)
    average.updates = 1000  # past the first iterations, which count more
    for value in (1.0, 2.0):
        parameter.data.fill_(value)
        average.update()
    torch.testing.assert_close(average.averages[0], torch.full((3,), 0.9 * 0.1 + 0.1 * 2.0))


def test_the_first_iterations_outweigh_the_start():
    parameter = torch.nn.Parameter(torch.zeros(1))
    average = AdapterAverage([parameter], 0.99)
    parameter.data.fill_(1.0)
    average.update()
    assert float(average.averages[0]) == pytest.approx(1 - 2 / 11)


def test_a_saved_average_goes_on_as_if_never_stopped():
    parameter = torch.nn.Parameter(torch.zeros(2))
    whole, first = (AdapterAverage([parameter], 0.9) for _ in range(2))
    for value in (1.0, 4.0, 9.0):
        parameter.data.fill_(value)
        whole.update()
        if value < 9:
            first.update()
            saved = copy.deepcopy(first.state())
            resumed = AdapterAverage([parameter], 0.9)
            resumed.load_state(saved)
    resumed.update()
    assert torch.equal(resumed.averages[0], whole.averages[0]) and resumed.updates == whole.updates == 3


def test_applied_swaps_and_gives_back():
    parameter = torch.nn.Parameter(torch.ones(2))
    average = AdapterAverage([parameter], 0.5)
    parameter.data.fill_(3.0)
    with average.applied():
        assert torch.equal(parameter.data, torch.ones(2))
    assert torch.equal(parameter.data, torch.full((2,), 3.0))
    assert torch.equal(average.averages[0], torch.ones(2))
    assert parameter.requires_grad and not average.averages[0].requires_grad
