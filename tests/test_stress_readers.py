"""Old snapshots: what keeps one and what does not; and the scenarios that compare two arms, in small."""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import partial

import psycopg
import pytest
from fix_postgres import Schema

from bench.analysis.verdict import Outcome
from bench.load.machine import machine
from bench.load.scan_source import PrecomputedScans
from bench.section import Section
from bench.stress import cpu_hogs, long_reader, slow_disk
from bench.stress.context import Stress
from bench.stress.plan import StressPlan
from bench.stress.plan_faults import CpuHogsPlan, LongReaderPlan
from bench.stress.readers import READERS, Reader, idle_transaction
from bench.stress.server import Server, stress_server
from logger.repositories import Stream, SynchronizingRepository
from logger.scan import ScanLayout, batch_of

SCANS = 150
KEEPS_NOTHING: dict[str, Reader] = {
    "control: nobody": lambda conninfo, schema: nullcontext(),
    "control: idle at READ COMMITTED": partial(idle_transaction, isolation="READ COMMITTED"),
}


class Storing:
    """Stores made-up scans in one stream."""

    def __init__(self, stream: Stream, parameters: int) -> None:
        config = machine(parameters, "reader")
        self._stream, self._layout = stream, ScanLayout(config)
        self._source = PrecomputedScans(config)

    def store(self, scans: int) -> None:
        for _ in range(scans):
            scan = self._source.next(self._stream.head.last_scan + 1)
            self._stream.store(batch_of([scan], self._layout))


@pytest.mark.parametrize("name", [*READERS, *KEEPS_NOTHING])
def test_dead_versions_pile_up_behind_an_old_snapshot_alone(schema: Schema, name: str) -> None:
    reader = {**READERS, **KEEPS_NOTHING}[name]
    storing = Storing(schema.stream(SynchronizingRepository, machine(84, "reader")), 84)

    def pages() -> int:
        return int(schema.value("SELECT pg_relation_size('component_parameters') / 8192"))

    storing.store(SCANS)
    before = pages()
    with reader(schema.conninfo, schema.name):
        storing.store(SCANS)
        during = pages()
    storing.store(SCANS)
    if name in KEEPS_NOTHING:
        assert during <= before + 2
    else:
        assert during > before + 50
        assert pages() <= during + 5, "it goes on growing although the reader has gone"


def schemas(conninfo: str) -> set[str]:
    with psycopg.connect(conninfo) as connection:
        return {name for (name,) in connection.execute("SELECT nspname FROM pg_namespace")}


@pytest.mark.long
def test_long_reader_shows_what_is_left_of_both_arms(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_reader, "READERS", {"idle transaction": idle_transaction})
    plan = StressPlan(long_reader=LongReaderPlan(snapshots_s=[1.5], before_s=0.3, after_s=0.2, repeats=2))
    said: list[float] = []
    bench = Stress(
        plan, ("baseline", "synchronizing"), lambda what, seconds: said.append(seconds), url=postgres
    )
    section, there = Section("long_reader"), schemas(postgres)
    long_reader.run(bench, section)
    assert not section.invalid
    assert all(each.violations == 0 and each.rows > 0 for each in section.verifications.values())
    trials = section.figures["trials"]
    assert [each["repository"] for each in trials].count("synchronizing") == len(trials) / 2 == 2
    for trial in trials:
        grew = trial["pages_during"] > 3 * trial["pages_before"]
        assert grew == (trial["repository"] == "synchronizing"), trial
    (judgement,) = section.judgements
    assert "synchronizing" in judgement.metric
    assert judgement.outcome is not Outcome.INVALID
    all_readers = [finding for finding in section.findings if finding.at["reader"] == "all"]
    assert [finding.at["repository"] for finding in all_readers] == ["baseline", "synchronizing"]
    assert all(finding.low < finding.value < finding.high for finding in all_readers)
    assert len(section.tables[0].rows) == 4
    assert sum(said) > 4 * (1.5 + 0.3 + 2 * 0.2)
    assert schemas(postgres) == there


@pytest.mark.long
def test_hogs_take_their_part_of_both_arms(postgres: str) -> None:
    plan = StressPlan(cpu_hogs=CpuHogsPlan(pairs=2, slot_s=0.3))
    section, there = Section("cpu_hogs"), schemas(postgres)
    cpu_hogs.run(Stress(plan, ("baseline", "synchronizing"), url=postgres), section)
    assert section.outcome is Outcome.PASS, section.to_json()
    per_s = section.figures["per_s"]
    assert {len(each) for each in per_s.values()} == {2}
    assert section.figures["hogs_cpu_s"] > 0.2, "they did not run"
    assert {finding.at["hogs"] for finding in section.findings} == {0, section.figures["hogs"]}
    assert schemas(postgres) == there


def test_commits_wait_for_a_delayed_flush() -> None:
    settings = {
        "commit_siblings": "0",
        "shared_buffers": "16MB",
        "max_wal_size": "1GB",
        "min_wal_size": "80MB",
    }
    with stress_server(None, settings) as server:
        with server.connect() as connection:
            connection.execute("CREATE TABLE one (n int)")
        quick = commit_s(server)
        slow_disk._delay_commits(server, 50.0)
        slow = commit_s(server)
        slow_disk._delay_commits(server, 0.0)
        assert slow > 0.05
        assert min(quick, commit_s(server)) < 0.05


def commit_s(server: Server) -> float:
    """The shortest of a few commits on a new connection."""
    took = []
    with server.connect() as connection:
        for _ in range(5):
            began = time.perf_counter()
            connection.execute("INSERT INTO one VALUES (1)")
            took.append(time.perf_counter() - began)
    return min(took)
