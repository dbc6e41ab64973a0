import pytest
import torch

from mixgrpo_engine.advantage import group_advantages

NAN = float("nan")


def test_known_values_per_group():
    rewards = torch.tensor([1.0, 2.0, 3.0, 10.0, 10.0, 40.0])
    expected = torch.tensor([-1.0, 0.0, 1.0, -10 / 300**0.5, -10 / 300**0.5, 20 / 300**0.5])
    torch.testing.assert_close(group_advantages({"a": rewards}, 3), expected)


def test_scale_and_offset_of_a_reward_do_not_matter():
    rewards = torch.rand(12)
    one, other = (group_advantages({"a": r}, 4) for r in (rewards, 100 * rewards + 7))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_weights_are_normalised_and_rewards_mixed():
    a, b = torch.rand(8), torch.rand(8)
    both = group_advantages({"a": a, "b": b}, 4, {"a": 3.0, "b": 1.0})
    expected = 0.75 * group_advantages({"a": a}, 4) + 0.25 * group_advantages({"b": b}, 4)
    torch.testing.assert_close(both, expected)
    mixed = group_advantages({"a": a, "b": b}, 4, {"a": 6.0, "b": 2.0}, mix="rewards")
    torch.testing.assert_close(mixed, group_advantages({"x": 0.75 * a + 0.25 * b}, 4))


@pytest.mark.parametrize("mix", ["advantages", "rewards"])
@pytest.mark.parametrize("weights", [{"a": 2.0, "b": 0.0}, {"a": 2.0}])
def test_a_reward_without_weight_counts_for_nothing(mix, weights):
    a, b = torch.rand(8), torch.tensor([0.0, 1.0, NAN, 3.0] * 2)
    torch.testing.assert_close(group_advantages({"a": a, "b": b}, 4, weights, mix), group_advantages({"a": a}, 4))


def test_rounding_of_large_rewards_is_no_spread():
    rewards = torch.tensor([1000.0, 1000.0 + 2.0**-13, 1000.0, 1000.0])
    assert rewards.std() > 1e-5
    assert torch.equal(group_advantages({"a": rewards}, 4), torch.zeros(4))


def test_a_group_without_spread_gives_no_signal():
    rewards = torch.tensor([0.5, 0.5 + 1e-7, 0.5, 0.5, 0.1, 0.2, 0.3, 0.4])
    advantages = group_advantages({"a": rewards}, 4)
    assert torch.equal(advantages[:4], torch.zeros(4)) and (advantages[4:] != 0).all()


@pytest.mark.parametrize("mix", ["advantages", "rewards"])
@pytest.mark.parametrize("failure", [NAN, float("inf"), -float("inf")])
def test_a_failed_score_changes_no_other_image(mix, failure):
    with_failure = group_advantages({"a": torch.tensor([1.0, failure, 2.0, 4.0])}, 4, mix=mix)
    without = group_advantages({"a": torch.tensor([1.0, 2.0, 4.0])}, 3, mix=mix)
    torch.testing.assert_close(with_failure[[0, 2, 3]], without)
    assert with_failure[1] == 0


def test_a_failed_score_takes_its_image_out_of_mixed_rewards():
    a, b = torch.tensor([1.0, NAN, 2.0, 4.0]), torch.tensor([1.0, 9.0, 3.0, 5.0])
    advantages = group_advantages({"a": a, "b": b}, 4, mix="rewards")
    kept = [0, 2, 3]
    torch.testing.assert_close(advantages[kept], group_advantages({"a": a[kept], "b": b[kept]}, 3, mix="rewards"))
    assert advantages[1] == 0


def test_a_failed_score_leaves_the_other_reward_alone():
    a, b = torch.tensor([1.0, NAN, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0, 5.0])
    advantages = group_advantages({"a": a, "b": b}, 4)
    expected = 0.5 * group_advantages({"b": b}, 4)[1]
    torch.testing.assert_close(advantages[1], expected)


def test_one_valid_score_is_no_comparison():
    assert torch.equal(group_advantages({"a": torch.tensor([NAN, 3.0, NAN])}, 3), torch.zeros(3))


def test_the_iterations_spread_is_that_of_all_rewards_in_every_group():
    """All six have mean 11 and the variance (100 + 81 + 64 + 1 + 1 + 841) / 6."""
    rewards, std = torch.tensor([1.0, 2.0, 3.0, 10.0, 10.0, 40.0]), (1088 / 6) ** 0.5
    expected = torch.tensor([-1.0, 0.0, 1.0, -10.0, -10.0, 20.0]) / std
    torch.testing.assert_close(group_advantages({"a": rewards}, 3, spread="iteration"), expected)
    # One group alone: its own spread, divided by n.
    one = group_advantages({"a": rewards[:3]}, 3, spread="iteration")
    torch.testing.assert_close(one, torch.tensor([-1.0, 0.0, 1.0]) * 1.5**0.5)


def test_with_the_iterations_spread_a_group_of_nearly_equal_images_weighs_little():
    rewards = torch.tensor([0.50, 0.51, 0.0, 1.0])
    assert group_advantages({"a": rewards}, 2)[1] == pytest.approx(0.5**0.5)
    assert group_advantages({"a": rewards}, 2, spread="iteration")[1] == pytest.approx(0.005 / 0.3536, rel=1e-3)


@pytest.mark.parametrize("mix", ["advantages", "rewards"])
def test_the_iterations_spread_leaves_out_what_gives_no_signal(mix):
    a = torch.tensor([1.0, NAN, 2.0, 4.0, 3.0, 3.0, 3.0, 3.0, NAN, NAN, NAN, NAN])
    advantages = group_advantages({"a": a}, 4, mix=mix, spread="iteration")
    known = torch.tensor([1.0, 2.0, 4.0, 3.0, 3.0, 3.0, 3.0])
    std = ((known - known.mean()) ** 2).mean() ** 0.5
    torch.testing.assert_close(advantages[[0, 2, 3]], (torch.tensor([1.0, 2.0, 4.0]) - 7 / 3) / std)
    assert advantages[1] == 0 and not advantages[4:].any()
    assert not group_advantages({"a": torch.full((4,), NAN)}, 4, mix=mix, spread="iteration").any()


def test_each_reward_has_an_iterations_spread_of_its_own():
    a, b = torch.rand(8), torch.rand(8)
    both = group_advantages({"a": a, "b": 100 * b}, 4, spread="iteration")
    parts = [group_advantages({"x": each}, 4, spread="iteration") for each in (a, b)]
    torch.testing.assert_close(both, sum(parts) / 2)


def test_clipping():
    rewards = torch.tensor([0.0] * 99 + [1.0])
    assert group_advantages({"a": rewards}, 100)[-1] == 5.0
    assert group_advantages({"a": rewards}, 100, clip=2.0)[-1] == 2.0
    assert group_advantages({"a": -rewards}, 100, clip=2.0)[-1] == -2.0
    # What is clipped is the mixed advantage: half of 9.9, not half of 2.
    assert group_advantages({"a": rewards, "b": torch.zeros(100)}, 100, clip=2.0)[-1] == 2.0


@pytest.mark.parametrize(
    "arguments",
    [
        dict(rewards={}),
        dict(rewards={"a": torch.rand(5)}),
        dict(rewards={"a": torch.rand(4)}, weights={"a": -1.0}),
        dict(rewards={"a": torch.rand(4)}, weights={"a": 0.0}),
        dict(rewards={"a": torch.rand(4)}, mix="x"),
        dict(rewards={"a": torch.rand(4)}, spread="x"),
    ],
)
def test_bad_input(arguments):
    with pytest.raises(ValueError):
        group_advantages(group_size=4, **arguments)
