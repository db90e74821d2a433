"""The .hgrm and .hlog files: what other tools read in them is what was measured."""

from __future__ import annotations

import math
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from numpy.typing import NDArray

from bench.measuring.hgrm import write_hgrm
from bench.measuring.hlog import tag_of, write_hlog
from bench.measuring.latency import (
    DIGITS,
    HIGHEST_US,
    LOWEST_US,
    Latencies,
    by_interval,
    latencies_of,
    together,
)

MS = 1_000_000
"""Nanoseconds."""
US = 1000
AT_S = 1_790_000_000.25
"""When the log begins: seconds since 1970."""
_ROW = re.compile(r" *(\d+\.\d{3}) (\d\.\d{12}) +(\d+)(?: +(\d+\.\d\d))?")


def lognormal(seed: int, count: int = 5000) -> NDArray[np.int64]:
    """Latencies around 1 ms with a long tail, in nanoseconds."""
    return np.rint(np.random.default_rng(seed).lognormal(13.8, 0.8, count)).astype(np.int64)


def read_hgrm(path: Path) -> tuple[list[tuple[float, float, int]], dict[str, float]]:
    """Rows (ms, share, count) and the footer's figures, as a plotter reads them."""
    header, empty, *lines = path.read_text().splitlines()
    assert header.split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    assert empty == ""
    rows = []
    for line in lines[:-3]:
        match = _ROW.fullmatch(line)
        assert match, line
        value, share, count, beyond = match.groups()
        assert (beyond is None) == (float(share) == 1)
        if beyond is not None:
            assert float(beyond) == pytest.approx(1 / (1 - float(share)), abs=0.006)
        rows.append((float(value), float(share), int(count)))
    footer: dict[str, float] = {}
    for line in lines[-3:]:
        assert line.startswith("#[")
        footer |= {k.strip(): float(v) for k, v in re.findall(r"([A-Z][A-Za-z ]+?) *= +([\d.]+)", line)}
    return rows, footer


def test_rows_are_javas_five_steps_for_each_half(tmp_path: Path) -> None:
    path = tmp_path / "one.hgrm"
    write_hgrm(path, latencies_of([n * MS for n in range(1, 1001)]))
    rows, footer = read_hgrm(path)
    first = [0, 10, 20, 30, 40, 50, 55, 60, 65, 70, 75, 77.5, 80, 82.5, 85, 87.5, 88.75]
    assert [100 * share for _, share, _ in rows[: len(first)]] == pytest.approx(first)
    assert rows[-1] == (1000.0, 1.0, 1000)
    for value, share, count in rows:  # the value of each row holds its share of 1, 2, … 1000 ms
        assert count >= 1000 * share
        assert value == pytest.approx(count, rel=1e-3)
    assert footer["Mean"] == pytest.approx(500.5, abs=0.001)
    assert footer["StdDeviation"] == pytest.approx(np.std(np.arange(1, 1001)), rel=1e-3)
    assert (footer["Max"], footer["Total count"]) == (1000, 1000)
    reference = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    assert (footer["Buckets"], footer["SubBuckets"]) == (reference.bucket_count, reference.sub_bucket_count)


@pytest.mark.parametrize("seed", range(3))
def test_table_tells_the_percentiles_of_the_values(tmp_path: Path, seed: int) -> None:
    values = lognormal(seed)
    path = tmp_path / "one.hgrm"
    write_hgrm(path, latencies_of(values))
    rows, footer = read_hgrm(path)
    ordered = np.sort(values) / MS
    for value, share, count in rows:
        at = ordered[max(0, math.ceil(share * len(ordered) - 1e-6) - 1)]
        assert value == pytest.approx(at, rel=2e-3, abs=1e-3)
        assert count == pytest.approx(np.searchsorted(ordered, value, side="right"), abs=5)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert footer["StdDeviation"] == pytest.approx(values.std() / MS, rel=2e-3)
    assert footer["Max"] >= rows[-1][0]


def test_an_empty_histogram_gives_a_table_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "empty.hgrm"
    write_hgrm(path, latencies_of([]))
    rows, footer = read_hgrm(path)
    assert rows == []
    assert (footer["Mean"], footer["Max"], footer["Total count"]) == (0, 0, 0)


def read_hlog(path: Path) -> list[HdrHistogram]:
    reader = HistogramLogReader(str(path), HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS))
    with closing(reader.input_file):
        return list(iter(reader.get_next_interval_histogram, None))


def test_a_log_is_read_back_by_hdrhistogram_itself(tmp_path: Path) -> None:
    intervals = [
        (arm, AT_S + second, 1.0, latencies_of(lognormal(10 * second + len(arm), 500)))
        for arm in ("baseline", "synchronizing+fillfactor=70")
        for second in (2, 0, 1)
    ]
    path = tmp_path / "run.hlog"
    write_hlog(path, intervals)
    read = read_hlog(path)
    assert [h.get_tag() for h in read] == ["baseline", "synchronizing+fillfactor=70"] * 3
    assert [h.get_start_time_stamp() / 1000 for h in read] == pytest.approx(
        [AT_S, AT_S, AT_S + 1, AT_S + 1, AT_S + 2, AT_S + 2], abs=0.001
    )
    for histogram, (_, _, length_s, latencies) in zip(
        read, sorted(intervals, key=lambda interval: interval[1]), strict=True
    ):
        ours = HdrHistogram.decode(latencies.encoded)
        assert histogram.get_total_count() == latencies.count
        assert histogram.get_value_at_percentile(99) == ours.get_value_at_percentile(99)
        assert histogram.get_end_time_stamp() - histogram.get_start_time_stamp() == 1000 * length_s


def test_rows_have_their_maximum_in_milliseconds_and_no_exponent(tmp_path: Path) -> None:
    path = tmp_path / "run.hlog"
    write_hlog(path, [("A", AT_S, 1.0, latencies_of([750 * US, 400])), ("B", AT_S, 0.25, latencies_of([]))])
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert "#[Histogram log format version 1.3]" in comments
    assert any(
        line.startswith("#[StartTime: 1790000000.250 (seconds since epoch), 2026-") for line in comments
    )
    rows = [line for line in path.read_text().splitlines() if line.startswith("Tag=")]
    assert rows[0].startswith("Tag=A,0.000,1.000,0.750,HISTF")
    assert rows[1].startswith("Tag=B,0.000,0.250,0.000,HISTF")


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("synchronizing (several writers a device)", "synchronizing_(several_writers_a_device)"),
        ("a,b\nc", "a_b_c"),
        ("größer", "gr??er"),
        ("module:Class+fillfactor=70", "module:Class+fillfactor=70"),
    ],
)
def test_a_tag_ends_no_field(text: str, tag: str) -> None:
    assert tag_of(text) == tag


def test_a_log_without_intervals_is_one_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "none.hlog"
    write_hlog(path, [])
    assert read_hlog(path) == []


@pytest.mark.parametrize("parts", [1, 3])
def test_together_is_what_would_have_been_recorded_in_one(parts: int) -> None:
    values = np.concatenate([lognormal(1), [61 * 60 * 1000 * MS]])
    whole = latencies_of(values)
    merged = together([latencies_of([]), *(latencies_of(part) for part in np.array_split(values, parts))])
    assert (merged.count, merged.clipped) == (whole.count, whole.clipped) == (5001, 1)
    assert (merged.sum_us, merged.max_us) == (pytest.approx(whole.sum_us), whole.max_us)
    ours, theirs = HdrHistogram.decode(merged.encoded), HdrHistogram.decode(whole.encoded)
    assert ours.get_min_value() == theirs.get_min_value() > 0  # an empty part does not make it 0
    assert [ours.get_value_at_percentile(p) for p in (50, 95, 99)] == [
        theirs.get_value_at_percentile(p) for p in (50, 95, 99)
    ]


def test_p95_is_neither_mean_nor_maximum_of_the_windows_p95() -> None:
    """Percentiles of windows cannot be put together: one stalled window tells."""
    windows = [latencies_of([1 * MS] * 990 + [2 * MS] * 10) for _ in range(19)]
    windows.append(latencies_of([500 * MS] * 1000))
    of_windows = [HdrHistogram.decode(w.encoded).get_value_at_percentile(95) / 1000 for w in windows]
    merged = HdrHistogram.decode(together(windows).encoded).get_value_at_percentile(95) / 1000
    assert max(of_windows) == pytest.approx(500, rel=1e-3)
    assert np.mean(of_windows) == pytest.approx(25.95, rel=1e-2)
    assert merged == pytest.approx(2, rel=1e-3)


def test_latencies_fall_into_the_second_in_which_they_were_due() -> None:
    at = [0, 999_999_999, 1_000_000_000, 5_500_000_000]
    found = by_interval(at, [1 * MS, 3 * MS, 4000 * MS, 2 * MS])
    assert [start for start, _ in found] == [0.0, 1.0, 5.0]
    assert [(one.count, one.max_us) for _, one in found] == [(2, 3000.0), (1, 4_000_000.0), (1, 2000.0)]
    whole: Latencies = together([one for _, one in found])
    assert whole.count == 4
