"""`plcbench doctor`: probes give figures of this machine, and each figure has its consequence."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from waiting import wait_for

from bench.analysis.abilities import Probes, abilities
from bench.cli import main
from bench.measuring.echo import echo
from bench.measuring.environment import environment, probed_folder
from bench.measuring.host import cpu_ticks, existing, host_facts, mount_of
from bench.measuring.probes import (
    clock_call_us,
    clock_step_us,
    database_us,
    fsync_us,
    loopback_us,
    pauses_ms,
    record_us,
    sleep_overshoot_us,
)
from bench.report.doctor_text import probes_table
from logger.database import connect
from plcsim.errors import PlcsimError

GOOD = Probes(
    clock_call_us=0.05,
    clock_step_us=0.05,
    sleep_overshoot_p50_us=80.0,
    sleep_overshoot_p99_us=300.0,
    pauses_per_s=0.5,
    longest_pause_ms=2.0,
    stolen_share=0.0,
    record_us=0.3,
    pacing_share=0.05,
    null_wait_p99_ms=0.1,
    null_achieved_per_s=10_000.0,
    fsync_p50_us=170.0,
    fsync_p99_us=400.0,
    loopback_p50_us=15.0,
    loopback_p99_us=40.0,
    database_p50_us=300.0,
    database_p99_us=500.0,
    server_is_local=False,
    cores=16,
    free_bytes=60 << 30,
    is_root=True,
)


def cannot(probes: Probes) -> list[str]:
    return [ability.what for ability in abilities(probes) if not ability.can]


def test_a_good_machine_can_measure_everything() -> None:
    assert cannot(GOOD) == []
    assert all(ability.why for ability in abilities(GOOD))


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({"clock_step_us": 15.0}, "single transactions in microseconds"),
        ({"clock_call_us": 10.0}, "single transactions in microseconds"),
        ({"longest_pause_ms": 80.0}, "the tail beyond p99.9"),
        ({"stolen_share": 0.05}, "the tail beyond p99.9"),
        ({"record_us": 30.0}, "2,000 transactions/s without the generator in the figures"),
        ({"pacing_share": 0.2}, "2,000 transactions/s without the generator in the figures"),
        ({"null_wait_p99_ms": 5.0}, "an open loop of 10,000 starts a second"),
        ({"null_achieved_per_s": 7000.0}, "an open loop of 10,000 starts a second"),
        ({"sleep_overshoot_p50_us": 15_000.0}, "intended starts to a tenth of a transaction"),
        ({"sleep_overshoot_p50_us": 300.0}, "intended starts to a tenth of a transaction"),
        ({"fsync_p50_us": 3.0}, "commits as durable as in a plant"),
        ({"server_is_local": True}, "a database across a network"),
        ({"cores": 2}, "scaling over processors"),
        ({"free_bytes": 1 << 30}, "load up to failure (plcbench stress)"),
        ({"is_root": False}, "full and slow disks (small file systems)"),
    ],
)
def test_each_figure_costs_what_depends_on_it(change: dict[str, float], lost: str) -> None:
    assert cannot(replace(GOOD, **change)) == [lost]


def test_a_percentile_of_too_few_starts_is_null_and_no_open_loop() -> None:
    slow = replace(GOOD, null_wait_p99_ms=math.nan, null_achieved_per_s=400.0)
    assert json.loads(json.dumps(slow.to_json(), allow_nan=False))["null_wait_p99_ms"] is None
    assert cannot(slow) == ["an open loop of 10,000 starts a second"]


def test_the_clock_is_read_and_steps() -> None:
    assert 0 < clock_call_us() < 50
    assert 0 < clock_step_us() < 1000


def test_a_sleeper_is_late_and_never_early() -> None:
    late = sleep_overshoot_us(20)
    assert len(late) == 20
    assert min(late) > 0


def test_who_is_stopped_sees_the_pause() -> None:
    """A process that is stopped for 50 ms while it probes: the probe must see just that."""
    pauses, stolen = pauses_ms(0.2)
    assert all(pause >= 1 for pause in pauses)
    assert 0 <= stolen <= 1
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pid = pool.apply(os.getpid)
        pool.apply(pauses_ms, (0.01,))  # what it needs is imported: from now on it only probes
        found = pool.apply_async(pauses_ms, (2.5,))
        _stop_for(pid, 0.3)
        assert max(found.get(30)[0]) >= 250


def _stop_for(pid: int, seconds: float) -> None:
    """Stop a process once it computes, for so long, and let it go on."""

    def ticks() -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])

    before = ticks()
    wait_for(lambda: ticks() > before + 3)
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + seconds
    try:
        wait_for(lambda: time.monotonic() >= until)  # the length of the stop is what is tested
    finally:
        os.kill(pid, signal.SIGCONT)


def test_recording_and_durable_writes_cost_something() -> None:
    assert 0 < record_us(2000) < 1000
    took = fsync_us(Path(tempfile.gettempdir()), 10)
    assert len(took) == 10
    assert min(took) > 0
    with pytest.raises(PlcsimError, match="/proc: cannot be written to"):
        fsync_us(Path("/proc"), 1)


def test_round_trips_go_to_another_process_that_is_gone_after() -> None:
    with echo():
        (other,) = multiprocessing.active_children()
        assert other.pid != os.getpid()
    assert not other.is_alive()
    assert min(loopback_us(20)) > 0
    assert multiprocessing.active_children() == []


def test_the_environment_has_its_key_and_no_secret(postgres: str) -> None:
    with connect(postgres) as connection:
        where = environment(connection)
        assert min(database_us(connection, 10)) > 0
    assert len(where["comparability_key"]) == 16
    assert where["postgresql"]["version"]
    assert where["host"]["cores_for_us"] >= 1
    json.dumps(where, allow_nan=False)


def test_durable_writes_are_probed_where_the_data_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLCSIM_DATA_DIR", str(tmp_path))
    assert probed_folder() == tmp_path
    monkeypatch.setenv("PLCSIM_DATA_DIR", str(tmp_path / "not" / "yet"))
    assert probed_folder() == Path(tempfile.gettempdir())


def test_facts_of_the_disk_are_those_of_the_nearest_folder_that_there_is(tmp_path: Path) -> None:
    assert existing(tmp_path / "not" / "yet") == tmp_path
    assert mount_of(tmp_path / "not" / "yet") == mount_of(tmp_path)
    assert mount_of(Path("/proc")) == ("proc", "proc")
    facts = host_facts(tmp_path)
    assert facts["data_folder_free_bytes"] > 0
    assert cpu_ticks()["all"] >= cpu_ticks()["idle"] > 0


def test_the_command_says_what_can_and_cannot_be_measured(
    postgres: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["plcbench", "doctor", "--database", postgres, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    assert (ended.value.code, err) == (0, "")
    told = json.loads(out)
    probes = Probes(**told["probes"])
    assert [each["what"] for each in told["abilities"]] == [each.what for each in abilities(probes)]
    assert probes.server_is_local
    assert "a database across a network" in [each["what"] for each in told["abilities"] if not each["can"]]
    console = Console(record=True, width=120)
    console.print(probes_table(probes).to_rich())
    assert "round trip to the database" in console.export_text()
