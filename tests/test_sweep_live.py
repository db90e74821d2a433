"""What is seen of a sweep while it runs, and of its cells afterwards."""

from __future__ import annotations

import io
import json
import math
import socket
from dataclasses import replace

import pytest
from rich.console import Console
from waiting import wait_for

from bench.measuring.latency import Latencies, latencies_of
from bench.measuring.resources import ProcessUse, ServerCounters
from bench.report.sweep_live import duration, live_table
from bench.report.sweep_table import sweep_table
from bench.sweep.cell import Trial
from bench.sweep.doubts import doubts_of
from bench.sweep.findings import section_of
from bench.sweep.live import Live, Report, listening, tell
from bench.sweep.measured import Cell, LoggerRun, TrialResult
from logger.histogram import Histogram

MS = 1_000_000
TRIAL = Trial(0.1, 2, "baseline", 50, 11.0, warm_up_s=1.0)


def histogram(*seconds: float) -> Histogram:
    made = Histogram()
    for each in seconds:
        made.add(each)
    return made


def test_reports_of_processes_come_together() -> None:
    fast, slow = histogram(*[0.001] * 98), histogram(0.9, 0.9)
    with listening() as listener:
        tell(listener.port, Report(0, 500, 0, 3, fast, 2.0))
        tell(listener.port, Report(1, 100, 1, 4, histogram(0.001), 2.0))
        tell(listener.port, Report(1, 300, 2, 5, slow, 2.0))  # the later one counts
        tell(0, Report(2, 1, 1, 1, slow, 1.0))  # nobody
        live = wait_for(lambda: live if (live := listener.look()).missed == 2 else None)
    assert sorted(live.reports) == [0, 1]
    assert (live.values_per_s, live.spooled, live.missed) == (400.0, 8, 2)
    assert live.p99_ms == pytest.approx(900, rel=0.17)  # of all together: no mean of percentiles


def test_what_others_send_to_the_port_is_ignored() -> None:
    with listening() as listener:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anybody:
            for data in (b"", b"hello", b"{}", b"[1]", b"\xff", b'{"process": 1, "response": 5}'):
                anybody.sendto(data, ("127.0.0.1", listener.port))
        tell(listener.port, Report(7, 1, 0, 0, histogram(), 0.0))
        wait_for(lambda: listener.look().reports)
        assert list(listener.live.reports) == [7]


def test_nothing_stored_yet_is_no_figure() -> None:
    live = Live({0: Report(0, 0, 0, 0, histogram(), 0.0)})
    assert live.values_per_s == 0
    assert math.isnan(live.p99_ms)
    assert math.isnan(Live().p99_ms)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (119, "119 s"), (121, "2 min 01 s"), (9000, "2.5 h")]
)
def test_durations_are_told_in_few_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def logger_run(response_ms: list[float], **changed: object) -> LoggerRun:
    none = latencies_of([])
    each = [round(ms * MS) for ms in response_ms]
    response = latencies_of(each)
    parts = tuple(latencies_of(each[n::10]) for n in range(10))
    run = LoggerRun(
        110, 0, 0, 5500, 110, 11.5, 0.23, 90_000_000, response, none, none, none, none,
        5000, 10.0, 1.8e9, 100, 100, parts,
    )  # fmt: skip
    return replace(run, **changed)  # type: ignore[arg-type]


def result(trial: Trial, *runs: LoggerRun, violations: int = 0) -> TrialResult:
    verification = {"violations": violations, "rows": 5500}
    return TrialResult(trial, list(runs), 1_100_000, violations, verification, [ProcessUse(1, 0.5)], [])


def text_of(table: object) -> str:
    console = Console(width=250, file=io.StringIO())
    console.print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_the_live_table_shows_what_ended_what_runs_and_what_is_left() -> None:
    cells = [
        Cell(
            TRIAL, result(TRIAL, logger_run([5.0] * 1000), logger_run([5.0] * 1000, spooled_most=9)), "", 14
        ),
        Cell(replace(TRIAL, devices=3), None, "a worker process died", 2),
    ]
    live = Live({0: Report(0, 500, 1, 4, histogram(*[0.2] * 50), 2.0)})
    text = text_of(live_table(cells, replace(TRIAL, devices=7), live, 3, 130.0))
    assert "2 done, 3 to come, about 2 min 10 s left" in text
    ended, failed, running = (
        next(line for line in text.splitlines() if f"{n} × 50" in line).split() for n in (2, 3, 7)
    )
    assert ended[-5:] == ["1,000", "1,000", "5.00", "9", "0"]
    assert "failed: a worker process died" in " ".join(failed)
    assert running[0] == "▸"
    assert running[-5:-3] == ["3,500", "250"]
    assert running[-2:] == ["4", "1"]
    starting = text_of(live_table([], TRIAL, Live(), 1, 9.0))
    assert "starting" in starting


def test_runs_of_a_cell_are_one_row_with_an_interval() -> None:
    cells = [
        Cell(one, result(one, logger_run([5.0] * 1000, window_rows=rows)), "", 14)
        for one, rows in [(replace(TRIAL, repeat=n), 5000 + 100 * n) for n in (1, 2, 3)]
    ]
    table = sweep_table(cells)
    assert list(table.columns[:5]) == ["devices", "interval [s]", "repository", "offered/s", "achieved/s"]
    ((*_, offered, achieved, stored, p50, p99, _, _, _, cpu, mb, _, violations),) = table.rows
    assert (offered, stored, p50, p99, cpu, mb, violations) == (
        "1,000",
        "100.0%",
        "5.00",
        "5.00",
        "2",
        "90",
        "0",
    )
    assert achieved == "520 [495, 545]"  # t(2) = 4.303: 520 ± 4.303 · 10 / √3


def test_what_varies_has_a_column_and_too_much_is_told_in_words() -> None:
    few = [TRIAL, replace(TRIAL, connections=2, faults="bad")]
    table = sweep_table([Cell(one, result(one, logger_run([5.0]))) for one in few])
    assert list(table.columns[3:5]) == ["connections", "faults"]
    assert [row[3:5] for row in table.rows] == [["its own", "none"], ["2", "bad"]]
    assert table.rows[0][9] == "< 5.00"  # one value has no percentile
    many = [*few, replace(TRIAL, parameters=60, loggers=1)]
    table = sweep_table([Cell(one, result(one, logger_run([5.0]))) for one in many])
    assert table.columns[0] == "cell"
    assert {row[0] for row in table.rows} == {str(one) for one in many}


def test_a_clipped_value_is_told() -> None:
    run = logger_run([5.0] * 1000, response=latencies_of([5 * MS] * 1000 + [70_000 * MS]))
    ((*_, p99, _, _, _, _, _, _, _),) = sweep_table([Cell(TRIAL, result(TRIAL, run))]).rows
    assert p99 == "5.00 (1 clipped)"


def test_findings_have_intervals_and_violations_invalidate() -> None:
    values = [4.0 + n % 100 / 50 for n in range(2000)]
    cells = [
        Cell(one, result(one, logger_run(values, window_rows=rows), violations=violations), "", 14)
        for one, rows, violations in [
            (replace(TRIAL, repeat=1), 5000, 0),
            (replace(TRIAL, repeat=2), 5200, 0),
            (replace(TRIAL, devices=1), 2000, 2),
        ]
    ]
    section = section_of(cells)
    assert [table.title for table in section.tables] == ["Sweep"]
    doubtful = Cell(TRIAL, replace(result(TRIAL, logger_run(values)), doubts=["a checkpoint ran"]))
    assert section_of([doubtful]).tables[1].rows == [(str(TRIAL), "a checkpoint ran")]
    assert section.outcome == "INVALID"
    assert section.invalid == [f"{replace(TRIAL, devices=1)}: 2 violations of the invariants"]
    found = {(each.metric, each.at["devices"], each.at.get("percentile")): each for each in section.findings}
    rate = found["parameters_per_s", 2, None]
    assert (rate.value, rate.unit, rate.at["repository"]) == (510.0, "values/s", "baseline")
    assert rate.low < 500 < 520 < rate.high  # two runs: t(1) is wide
    assert math.isnan(found["parameters_per_s", 1, None].low)
    p99 = found["response_ms", 2, 99.0]
    assert p99.low <= p99.value == pytest.approx(5.96, rel=0.01)
    assert p99.value <= p99.high <= 6.0
    assert found["violations", 1, None].value == 2
    assert found["success", 2, None].value == 1.0


def test_whose_limit_it_was_and_what_ran_into_it_is_told() -> None:
    quiet = ServerCounters(0, 1, 5, 2, 0, 0, 0, 0, 0)
    calm, busy = logger_run([5.0]), logger_run([5.0], cpu_s=11.0, spooled_left=3)
    assert doubts_of(TRIAL, [calm], 0.5, quiet, quiet) == []
    assert doubts_of(TRIAL, [calm], math.nan, quiet, quiet) == []
    disturbed = replace(quiet, checkpoint_lsn=9, vacuums=3)
    found = doubts_of(TRIAL, [calm, busy], 0.97, quiet, disturbed)
    words = ("97%", "logger's", "checkpoint", "vacuum", "3 scans")
    assert all(word in doubt for word, doubt in zip(words, found, strict=True))
    (made,) = doubts_of(replace(TRIAL, source="made"), [replace(busy, spooled_left=0)], 0.5, quiet, quiet)
    assert "the generator's, not the database's" in made


def test_a_result_is_read_back_as_it_was() -> None:
    before = result(TRIAL, logger_run([5.0, 6.0], failures={"deadlock": 2}), violations=1)
    after = TrialResult.from_json(json.loads(json.dumps(before.to_json())))
    assert after == before
    assert isinstance(after.runs[0].response, Latencies)
    starts = [start for start, _ in after.runs[0].response_by_s]
    assert starts == [1.8e9 + n for n in range(10)]
