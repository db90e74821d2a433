"""Histograms of durations: what they count, how exact they are, and that they can be added up."""

from __future__ import annotations

import json
import threading
from math import isnan

import numpy as np
import pytest

from logger.histogram import BOUNDS, Histogram, together


def filled(durations: list[float]) -> Histogram:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    return histogram


def test_neighbouring_bounds_are_at_most_17_percent_apart() -> None:
    steps = np.divide(BOUNDS[1:], BOUNDS[:-1])
    assert (steps > 1).all()
    assert steps.max() < 1.17
    assert (BOUNDS[0], BOUNDS[-1]) == (1e-5, 9000.0)


@pytest.mark.parametrize("percent", [1, 50, 90, 99, 99.9])
@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_as_exact_as_the_buckets(percent: float, seed: int) -> None:
    durations = np.random.default_rng(seed).lognormal(-6, 2, 5000)
    truth = float(np.percentile(durations, percent, method="inverted_cdf"))
    assert filled(durations.tolist()).percentile(percent) == pytest.approx(truth, rel=0.17)


def test_what_was_never_measured_has_no_percentile() -> None:
    assert isnan(Histogram().percentile(99))


def test_what_is_off_the_scale_is_counted_at_its_ends() -> None:
    histogram = filled([-1.0, 0.0, 1e9])
    assert (histogram.count, histogram.counts[0], histogram.counts[-1]) == (3, 2, 1)
    assert histogram.percentile(100) == BOUNDS[-1]
    assert histogram.total_s == 1e9


def test_a_bound_is_in_its_bucket() -> None:
    histogram = filled([0.001, 0.0011, 0.0025, 0.0025000001])
    assert histogram.at_most([0.001, 0.0025, 0.005]) == [1, 3, 4]


def test_together_is_as_if_all_had_been_counted_in_one() -> None:
    parts = [[0.001, 0.5], [], [0.002, 0.5, 70.0]]
    whole = filled([duration for part in parts for duration in part])
    summed = together(filled(part) for part in parts)
    assert (summed.counts, summed.total_s) == (whole.counts, pytest.approx(whole.total_s))


def test_since_is_what_was_added() -> None:
    histogram = filled([0.001, 0.01])
    before = histogram.copy()
    histogram.add(0.3, 4)
    newest = histogram.since(before)
    assert (newest.count, newest.total_s) == (4, pytest.approx(1.2))
    assert newest.percentile(1) == pytest.approx(0.3, rel=0.17)


def test_json_and_back() -> None:
    histogram = filled([0.001, 0.01, 0.01, 1e9])
    again = Histogram.from_json(json.loads(json.dumps(histogram.to_json())))
    assert (again.counts, again.total_s) == (histogram.counts, histogram.total_s)


@pytest.mark.parametrize("data", [{}, {"counts": 1, "total_s": 1}, {"counts": {"9999": 1}, "total_s": 1}])
def test_what_is_no_histogram_is_refused(data: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, IndexError)):
        Histogram.from_json(data)


def test_no_duration_is_lost_between_threads() -> None:
    histogram = Histogram()
    threads = [
        threading.Thread(target=lambda: [histogram.add(0.001) for _ in range(20_000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert histogram.count == 80_000
