"""Part B's runs and their summary."""

import pytest

from benchmarks import reward_over_time, variants


def test_a_run_is_evaluated_from_start_to_end(small):
    run = reward_over_time.train(small, variants.FLASH, seed=1, seconds=0.5, evaluations=3)
    points = run["points"]
    assert (points[0]["iteration"], points[0]["seconds"]) == (0, 0)
    assert points[-1]["iteration"] == run["iterations"] >= 1 and points[-1]["seconds"] == run["seconds"]
    iterations = [point["iteration"] for point in points]
    assert iterations == sorted(set(iterations)) and 2 <= len(points) <= 4
    assert run["forwards"] > 0 and (run["variant"], run["seed"]) == ("MixGRPO-Flash", 1)


def test_a_seed_starts_from_the_same_images_whatever_the_variant(small):
    runs = [
        reward_over_time.train(small, variant, seed, seconds=0.01, evaluations=1)
        for variant, seed in ((variants.FLASH, 2), (variants.FLASH_STAR, 2), (variants.FLASH, 3))
    ]
    first = [run["points"][0]["reward"] for run in runs]
    assert first[0] == first[1] != first[2]


def test_every_variant_gets_every_seed():
    wanted = [(variant.name, seed) for variant, seed in reward_over_time.wanted(2)]
    assert len(set(wanted)) == len(wanted) == 12
    assert [seed for _, seed in wanted] == [0] * 6 + [1] * 6  # what slows the machine hits all variants alike


def test_summary_by_hand(made_up_run):
    rows = reward_over_time.summarise([made_up_run(variants.FLASH, seed) for seed in (0, 1, 2)])
    (row,) = rows
    assert row["seeds"] == 3 and row["iterations"] == {"mean": 8, "spread": 0}
    assert row["reward_after"] == pytest.approx({"mean": 0.8, "spread": 0.1})
    assert row["gain"] == pytest.approx({"mean": 0.3, "spread": 0.1})
    assert reward_over_time.summarise([made_up_run(variants.FLASH, 0)])[0]["gain"]["spread"] is None
