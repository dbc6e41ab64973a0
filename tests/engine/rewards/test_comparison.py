"""Paired comparison of two models, against SciPy and textbook values."""

import math

import pytest
import torch
from scipy import stats

from mixgrpo_engine.rewards.comparison import compare, paired, win_rate

NAN = float("nan")


def test_paired_is_scipys_t_test():
    differences = torch.tensor([0.3, -0.1, 0.5, 0.2, 0.0, 0.4])
    result = paired(differences)
    reference = stats.ttest_1samp(differences.double().numpy(), 0.0)
    interval = reference.confidence_interval(0.95)
    assert result["mean"] == pytest.approx(1.3 / 6)
    assert (result["low"], result["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert result["p"] == pytest.approx(reference.pvalue)
    assert all(type(value) is float for value in result.values())


def test_differences_without_spread():
    assert paired(torch.tensor([0.25] * 4)) == {"mean": 0.25, "low": 0.25, "high": 0.25, "p": 0.0}
    assert paired(torch.zeros(4)) == {"mean": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    assert paired(torch.tensor([0.5])) == {"mean": 0.5, "low": None, "high": None, "p": None}


@pytest.mark.parametrize("wins", [0, 1, 7, 19, 20])
def test_win_rate_is_wilsons_interval_over_prompts(wins):
    reference = stats.binomtest(wins, 20).proportion_ci(0.95, method="wilson")
    result = win_rate(torch.tensor([1.0] * wins + [0.0] * (20 - wins)))
    assert result["mean"] == pytest.approx(wins / 20)
    assert (result["low"], result["high"]) == (pytest.approx(reference.low), pytest.approx(reference.high))


def test_compare_pairs_images_and_averages_over_prompts():
    base = torch.tensor([[0.0, 0.5], [1.0, 1.0], [0.2, 0.4]])
    tuned = torch.tensor([[1.0, 0.5], [0.0, 2.0], [0.4, 0.8]])
    result = compare(base, tuned)
    assert result["base"] == pytest.approx((0.25 + 1.0 + 0.3) / 3)
    assert result["tuned"] == pytest.approx((0.75 + 1.0 + 0.6) / 3)
    assert result["difference"] == paired(torch.tensor([0.5, 0.0, 0.3])) | {
        key: pytest.approx(value, abs=1e-6) for key, value in result["difference"].items()
    }
    assert result["difference"]["mean"] == pytest.approx(0.8 / 3)
    # A win and a tie, a loss and a win, two wins.
    assert result["win_rate"]["mean"] == pytest.approx((0.75 + 0.5 + 1.0) / 3)
    assert (result["prompts"], result["images"], result["failed"]) == (3, 6, 0)


def test_a_failed_score_takes_its_pair_along():
    base = torch.tensor([[0.0, NAN], [NAN, 1.0], [0.5, 0.5]])
    tuned = torch.tensor([[1.0, 9.0], [9.0, NAN], [1.0, 1.0]])
    result = compare(base, tuned)
    assert (result["prompts"], result["images"], result["failed"]) == (2, 3, 3)
    assert (result["base"], result["tuned"]) == (0.25, 1.0) and result["win_rate"]["mean"] == 1.0


def test_nothing_to_compare_is_none():
    result = compare(torch.full((2, 2), NAN), torch.zeros(2, 2))
    assert result == {
        "prompts": 0, "images": 0, "failed": 4, "base": None, "tuned": None, "difference": None, "win_rate": None
    }  # fmt: skip


def test_intervals_miss_as_seldom_as_they_promise():
    """Of 400 comparisons of equals, about 5% of the intervals miss 0: binomial, so 20 give or take 5 deviations."""
    generator = torch.Generator().manual_seed(0)
    missed = 0
    for _ in range(400):
        result = compare(*torch.randn(2, 12, 3, generator=generator))["difference"]
        missed += not result["low"] <= 0 <= result["high"]
    assert abs(missed - 20) < 5 * math.sqrt(400 * 0.05 * 0.95)
