"""Two models on the same prompts and noises: how much better is one, and how sure is that?

The unit is the prompt: images of one prompt are alike, so more of them make a prompt's value surer, not the comparison.
"""

from __future__ import annotations

import math

from torch import Tensor

CONFIDENCE = 0.95


def compare(base: Tensor, tuned: Tensor) -> dict:
    """base, tuned: scores (prompts, images), NaN where scoring failed; the same place has the same noise in both.

    A pair with a failed score is left out, and so is a prompt without any pair; `failed` counts the pairs. Means are
    over the prompts' means, the difference is paired() and the win rate win_rate(). All None when nothing is left.
    """
    valid = base.isfinite() & tuned.isfinite()
    chosen = valid.any(1)
    report = {"prompts": int(chosen.sum()), "images": int(valid.sum()), "failed": int((~valid).sum())}
    if not chosen.any():
        return {**report, "base": None, "tuned": None, "difference": None, "win_rate": None}
    first, second = (_prompt_means(scores, valid)[chosen] for scores in (base, tuned))
    wins = (tuned > base).double() + 0.5 * (tuned == base).double()
    return {
        **report,
        "base": float(first.mean()),
        "tuned": float(second.mean()),
        "difference": paired(second - first),
        "win_rate": win_rate(_prompt_means(wins, valid)[chosen]),
    }


def paired(differences: Tensor) -> dict[str, float | None]:
    """Paired t test over prompts: mean difference, its 95% interval, two-sided p. One prompt alone has no interval."""
    from scipy import stats

    values = differences.double().cpu().numpy()
    mean = float(values.mean())
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None, "p": None}
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    p = float(stats.ttest_1samp(values, 0.0).pvalue) if error > 0 else float(mean == 0)
    return {"mean": mean, "low": mean - margin, "high": mean + margin, "p": p}


def win_rate(wins: Tensor) -> dict[str, float | None]:
    """wins: (prompts,), the share of a prompt's images that won, a tie counting half. Mean and 95% interval.

    Wilson's score interval with the prompts as trials: a share between 0 and 1 varies no more than a single trial of
    the same mean, so the interval is rather too wide than too narrow, and it has a width even when one side won all.
    """
    from scipy import stats

    count, rate = len(wins), float(wins.double().mean())
    if count < 2:
        return {"mean": rate, "low": None, "high": None}
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    centre = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    margin = z / (1 + z**2 / count) * math.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return {"mean": rate, "low": max(0.0, centre - margin), "high": min(1.0, centre + margin)}


def _prompt_means(values: Tensor, valid: Tensor) -> Tensor:
    """(prompts, images) to (prompts,): means over the valid ones."""
    known = values.double().where(valid, 0.0)
    return known.sum(1) / valid.sum(1).clamp(min=1)
