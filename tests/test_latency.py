"""Latency histograms against numpy on the same values: percentiles, means, merging, coding, clipping."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from bench.measuring.latency import Latencies, Merged, latencies_of

US = 1000
"""Nanoseconds."""
PRECISION = 1 / 1000
"""Three digits."""


def lognormal(seed: int, count: int = 5000) -> NDArray[np.int64]:
    """Latencies around 1 ms with a long tail, in nanoseconds."""
    return np.rint(np.random.default_rng(seed).lognormal(13.8, 0.8, count)).astype(np.int64)


def at_rank(nanoseconds: NDArray[np.int64], percent: int) -> float:
    """The value at the rank ceil(p·n), in whole arithmetic; microseconds."""
    rank = -(-percent * len(nanoseconds) // 100)
    return float(np.sort(nanoseconds)[rank - 1]) / US


@pytest.mark.parametrize("percent", [1, 5, 50, 90, 95, 99])
@pytest.mark.parametrize("count", [1000, 1234, 5000])
def test_percentile_is_the_value_at_rank_ceil_p_n(percent: int, count: int) -> None:
    values = lognormal(count + percent, count)
    expected = at_rank(values, percent)
    assert expected == np.percentile(values / US, percent, method="inverted_cdf")
    merged = Merged([latencies_of(values)])
    assert merged.percentile_us(percent) == pytest.approx(expected, rel=PRECISION, abs=0.5)


@pytest.mark.parametrize(("percent", "expected"), [(1, 1), (7, 7), (29, 29), (55, 55), (57, 57), (90, 90)])
def test_a_rank_is_not_moved_by_what_a_float_cannot_hold(percent: int, expected: int) -> None:
    # 0.07 · 100, 0.55 · 100 and others come out above the whole number in floats
    merged = Merged([latencies_of([us * US for us in range(1, 101)])])
    assert merged.percentile_us(percent) == expected


@pytest.mark.parametrize(
    ("count", "percent", "enough"),
    [
        (20, 50, True),
        (19, 50, False),
        (200, 95, True),
        (199, 95, False),
        (1000, 99, True),
        (999, 99, False),
        (10_000, 99.9, True),
        (9_999, 99.9, False),
        (100, 90, True),
        (0, 50, False),
    ],
)
def test_a_percentile_needs_ten_values_beyond_it(count: int, percent: float, enough: bool) -> None:
    merged = Merged([latencies_of(np.arange(1, count + 1) * US)])
    assert math.isnan(merged.percentile_us(percent)) is not enough


def test_a_percentile_is_never_above_the_maximum() -> None:
    merged = Merged([latencies_of([4_096_100] * 100)])  # 4096.1 us, in a bucket up to 4099
    assert merged.percentile_us(50) == merged.max_us == pytest.approx(4096.1)


def test_mean_and_maximum_are_exact() -> None:
    values = lognormal(7)
    one = latencies_of(values)
    assert one.mean_us == pytest.approx(values.mean() / US, rel=1e-12)
    assert one.max_us == values.max() / US
    assert one.count == len(values)


def test_sub_microsecond_differences_stay_in_the_mean() -> None:
    assert latencies_of([1400, 1300]).mean_us == pytest.approx(1.35)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_merging_equals_recording_together(parts: int) -> None:
    values = lognormal(parts)
    together = Merged([latencies_of(values)])
    merged = Merged([latencies_of(part) for part in np.array_split(values, parts)])
    assert merged.count == together.count
    assert merged.mean_us == pytest.approx(together.mean_us, rel=1e-12)
    assert merged.max_us == together.max_us
    for percent in (1, 50, 95, 99):
        assert merged.percentile_us(percent) == together.percentile_us(percent)


@pytest.mark.parametrize("empty", [[0], [1], [0, 1, 2]])
def test_empty_slots_add_nothing(empty: list[int]) -> None:
    values = [lognormal(1), lognormal(2), lognormal(3)]
    merged = Merged([latencies_of([] if i in empty else values[i]) for i in range(3)])
    kept = [values[i] for i in range(3) if i not in empty]
    assert merged.count == sum(len(part) for part in kept)
    if kept:
        expected = Merged([latencies_of(np.concatenate(kept))])
        assert merged.percentile_us(50) == expected.percentile_us(50)
    else:
        assert math.isnan(merged.percentile_us(50))
        assert math.isnan(merged.mean_us)


def test_weighted_merge_equals_a_merge_that_repeats_slots() -> None:
    slots = [latencies_of(lognormal(seed, 400)) for seed in range(4)]
    weights = np.array([[1, 1, 1, 1], [0, 2, 0, 2], [4, 0, 0, 0], [0, 1, 3, 0]], dtype=float)
    for percent in (5, 50, 90):
        weighted = Merged(slots).weighted_percentiles_us(percent, weights)
        explicit = [
            Merged([slots[i] for i, times in enumerate(row) for _ in range(int(times))]).percentile_us(
                percent
            )
            for row in weights
        ]
        assert weighted.tolist() == explicit


def test_a_merge_of_slots_that_stored_nothing_has_no_percentile() -> None:
    merged = Merged([latencies_of([]), latencies_of([5_000_000] * 20)])
    found = merged.weighted_percentiles_us(50, np.array([[2.0, 0.0], [1.0, 1.0]]))
    assert math.isnan(found[0])
    assert found[1] == pytest.approx(5000, rel=0.001)
    for slots in (2, 0):
        nothing = Merged([latencies_of([])] * slots)
        assert np.isnan(nothing.weighted_percentiles_us(50, np.ones((3, slots)))).tolist() == [True] * 3
        assert math.isnan(nothing.percentile_us(50))
        assert math.isnan(nothing.mean_us)
        assert (nothing.count, nothing.max_us) == (0, 0.0)


def test_what_is_encoded_is_readable_by_hdrhistogram_itself() -> None:
    values = lognormal(11)
    encoded = latencies_of(values).to_json()["hdr_v2"]
    decoded = HdrHistogram.decode(json.loads(json.dumps(encoded)))
    assert decoded.get_total_count() == len(values)
    assert decoded.get_value_at_percentile(99) == pytest.approx(at_rank(values, 99), rel=2 * PRECISION, abs=1)
    assert decoded.get_max_value() == pytest.approx(values.max() / US, rel=PRECISION, abs=1)


def test_a_histogram_travels_between_processes() -> None:
    one = latencies_of(lognormal(12))
    travelled: Latencies = pickle.loads(pickle.dumps(one))
    assert travelled == one
    assert Merged([travelled]).percentile_us(95) == Merged([one]).percentile_us(95)


@pytest.mark.parametrize(
    ("nanoseconds", "clipped", "recorded_us"),
    [(61_000_000 * US, 1, 60_000_000), (60_000_000 * US, 0, 60_000_000), (-5 * US, 1, 1), (400, 0, 1)],
    ids=["above a minute", "a minute", "negative", "below a microsecond"],
)
def test_what_is_out_of_range_is_counted_at_the_edge(
    nanoseconds: int, clipped: int, recorded_us: int
) -> None:
    one = latencies_of([nanoseconds])
    assert (one.count, one.clipped) == (1, clipped)
    assert one.mean_us == one.max_us == nanoseconds / US
    decoded = HdrHistogram.decode(one.encoded)
    assert decoded.get_total_count() == 1
    assert decoded.get_min_value() == pytest.approx(recorded_us, rel=PRECISION)


def test_nothing_measured_is_no_number() -> None:
    assert latencies_of([]).to_json() | {"hdr_v2": ""} == {
        "count": 0, "mean_us": None, "max_us": 0.0, "clipped": 0, "hdr_v2": "",
    }  # fmt: skip
