"""What several seeds say: a mean with its interval, and the difference to a baseline that saw the same seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        n: seeds.
        deviation: standard deviation between seeds, with n - 1; NaN of a single one.
        low: where the mean of all seeds lies with a confidence of 95 %, by Student's t; NaN of a single one.
        high: the same, from above.
        p: how probable a mean this far from zero were if that of all seeds was zero, by the same t; NaN of one alone.
    """

    n: int
    mean: float
    deviation: float
    low: float
    high: float
    p: float


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value a seed; there must be one."""
    n, mean = len(values), statistics.fmean(values)
    if n == 1:
        return Estimate(1, mean, math.nan, math.nan, math.nan, math.nan)
    from scipy import stats  # half a second, which help need not wait for

    deviation = statistics.stdev(values)
    error = deviation / math.sqrt(n)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, n - 1)) if error else float(mean == 0)
    return Estimate(n, mean, deviation, mean - half, mean + half, p)


def difference(values: Mapping[str, float], baseline: Mapping[str, float]) -> Estimate | None:
    """The mean difference to a baseline, seed by seed; None where they share no seed.

    A pair shares its batches and what else the seed decides, so its difference varies less than either does.
    """
    shared = [value - baseline[seed] for seed, value in values.items() if seed in baseline]
    return estimate(shared) if shared else None


def adjusted(p_values: Sequence[float]) -> list[float]:
    """The p-values of several comparisons made at once, so that at most one in twenty such sets errs, not comparisons.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    found = [math.nan] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        found[place] = largest
    return found
