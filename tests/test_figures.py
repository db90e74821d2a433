"""The figures of a logger: summed over its workers, written to the status file, and read back."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from logger.figures import DeviceFigures, Figures, SpoolState
from logger.status_file import how_it_is, read_status, write_status
from logger.worker_figures import of_workers
from plcsim.errors import InputError


def worker(number: int, *devices: DeviceFigures, database: str = "storing") -> Figures:
    figures = Figures(
        name="plant", worker=number, pid=os.getpid(), at=1000.0 + number, seconds=10.0 * number, cpu_s=1.5,
        database=database, parameters=84, requests=4, stored_scans=100, stored_rows=8400, transactions=50,
        gaps=number, retries=Counter({"again": 1, "reconnect": number}),
        spool=SpoolState(depth=3, bytes=1000, max_bytes=10_000, oldest_age_s=float(number)),
        devices=list(devices),
    )  # fmt: skip
    figures.latencies.freshness.add(0.01 * number)
    return figures


ONE = DeviceFigures("ald-1", "connected", scans=50, missed=1, read_errors=2, exceptions={"2": 5})
TWO = DeviceFigures("ald-2", "not connected", scans=40, failed=40)


def test_workers_are_summed_as_if_they_were_one() -> None:
    both = of_workers("plant", [worker(1, ONE), worker(2, TWO)], restarts=3)
    assert (both.scans, both.missed, both.read_errors) == (90, 1, 2)
    assert (both.stored_scans, both.stored_rows, both.transactions, both.gaps) == (200, 16_800, 100, 3)
    assert (both.parameters, both.requests, both.restarts) == (168, 8, 3)
    assert both.retries == {"again": 2, "reconnect": 3}
    assert both.spool == SpoolState(depth=6, bytes=2000, max_bytes=20_000, oldest_age_s=2.0)
    assert both.latencies.freshness.count == 2
    assert (both.seconds, both.cpu_s, both.at) == (20.0, 3.0, 1001.0)


@pytest.mark.parametrize("states", [("storing", "waiting: x"), ("waiting: x", "storing")])
def test_one_worker_that_does_not_store_is_what_is_shown(states: tuple[str, str]) -> None:
    both = of_workers("plant", [worker(n, ONE, database=state) for n, state in enumerate(states, 1)])
    assert both.database == "waiting: x"
    assert not both.is_well


@pytest.mark.parametrize(
    ("figures", "well"),
    [
        (worker(1, ONE), True),
        (worker(1, ONE, TWO), True),
        (worker(1, TWO), False),
        (worker(1, ONE, database="stopped: x"), False),
        (Figures(database="storing", alarms=["the spool is full"], devices=[ONE]), False),
    ],
)
def test_is_well(figures: Figures, well: bool) -> None:
    assert figures.is_well is well


def test_the_last_line_has_no_nan() -> None:
    summary = json.loads(json.dumps(Figures().summary(), allow_nan=False))
    assert summary["freshness_p99_ms"] is None
    assert summary["device_id"] == ""


def test_status_file_and_back(tmp_path: Path) -> None:
    figures = worker(1, ONE, TWO)
    write_status(tmp_path, figures)
    again = read_status(tmp_path)
    assert again.to_json() == figures.to_json()
    assert again.latencies.freshness.percentile(50) == pytest.approx(0.01, rel=0.17)
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"name": 1}', '{"colour": "red"}'])
def test_what_is_no_status_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "status.json").write_text(content)
    why = "cannot be read: No such file" if content is None else "is not the status of a plclogger"
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "status.json")) + f".*{why}"):
        read_status(tmp_path)


def test_whether_it_runs() -> None:
    nobody = 2**22 + 1  # above the largest pid there can be
    ours = os.getpid()
    assert how_it_is(Figures(pid=ours, at=100.0), now=101.0) == "running"
    assert how_it_is(Figures(pid=ours, at=100.0), now=106.0) == "silent"
    assert how_it_is(Figures(pid=nobody, at=100.0), now=101.0) == "gone"
    assert how_it_is(Figures(pid=nobody, at=100.0, ended=True), now=101.0) == "ended"
