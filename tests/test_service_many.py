"""Many devices in one logger, in one process and in several: the sick delay nobody, the dead lose nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from fix_emulator import ALD_FILE
from fix_fleet import fleet_file
from fix_logger import Logger, logging_into, plclogger, spool_of
from fix_postgres import Schema
from fix_proxy import Proxy
from waiting import wait_for

from bench.oracle.verify import verify
from plcsim.testing import FleetDevice, RunningFleet

FAST = ("--interval", "50ms", "--json")
COUNT = 6


class Plant(RunningFleet):
    """A fleet, and a fleet file that says where its devices listen."""

    def __init__(self, folder: Path, more: str = "") -> None:
        super().__init__(fleet_file(folder, count=COUNT, more=more))
        self.file = folder / "plant.yaml"

    def write(self, *others: FleetDevice) -> Path:
        """Write the file, with other devices too, wherever they are."""
        entries = [
            {"template": str(ALD_FILE), "device_id": d.device_id, "host": d.host, "port": d.port,
             "unit_id": d.unit_id, "seed": seed}
            for seed, d in enumerate((*self.devices, *others), 1)
        ]  # fmt: skip
        self.file.write_text(yaml.safe_dump({"fleet": {"name": "plant"}, "devices": entries}))
        return self.file


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with Plant(tmp_path_factory.mktemp("plant")) as running:
        yield running


def check(schema: Schema) -> None:
    """Every invariant holds."""
    with schema.connect() as connection:
        verification = verify(connection)
    assert verification.violations == 0, verification.to_json()
    assert verification.rows > 0


def per_device(schema: Schema, column: str, where: str = "true") -> dict[str, Any]:
    query = f"SELECT device_id, {column} FROM parameter_value_history WHERE {where} GROUP BY 1 ORDER BY 1"
    return dict(schema.rows(query))


def status_of(spool: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((spool / "status.json").read_text())
    except FileNotFoundError:
        return {"devices": [], "stored_rows": 0}
    return content


def test_devices_of_one_process_are_stored_together(schema: Schema, plant: Plant) -> None:
    with logging_into(schema, None, *FAST, "--for", "1s", device_file=plant.write()) as logger:
        ended = logger.wait()
    assert (ended.code, ended.complaints) == (0, "")
    figures = ended.figures
    assert (figures["device_id"], figures["devices"]) == ("plant", COUNT)
    assert (figures["parameters"], figures["requests"]) == (84 * COUNT, 4 * COUNT)
    assert figures["scans"] == figures["stored_scans"]
    assert figures["stored_rows"] == 84 * figures["scans"] == sum(per_device(schema, "count(*)").values())
    assert list(per_device(schema, "1")) == [device.device_id for device in plant.devices]
    assert figures["transactions"] < figures["stored_scans"], "scans of several devices go together"
    assert figures["spooled"] == 0
    assert 0 < figures["freshness_p99_ms"] < 5000
    check(schema)


def test_phases_of_the_devices_are_spread_over_the_interval(schema: Schema, plant: Plant) -> None:
    options = ("--interval", "600ms", "--json", "--for", "1s")
    with logging_into(schema, None, *options, device_file=plant.write()) as logger:
        assert logger.wait().code == 0
    first = per_device(schema, "extract(epoch FROM min(recorded_at))", "scan = 1")
    start = min(first.values())
    phases = sorted(float(at - start) for at in first.values())
    assert phases[-1] == pytest.approx(0.5, abs=0.25)
    assert all(later > earlier for earlier, later in pairwise(phases))


def test_a_dead_device_delays_no_other(schema: Schema, plant: Plant, nobody: int) -> None:
    dead = FleetDevice("dead-1", "127.0.0.1", nobody, 1, 100)
    with logging_into(schema, None, *FAST, "--for", "1s", device_file=plant.write(dead)) as logger:
        ended = logger.wait()
    assert ended.code == 0
    assert "dead-1: the PLC at 127.0.0.1" in ended.complaints
    assert len(ended.complaints.splitlines()) == 1
    bad = per_device(schema, "count(*)", "quality <> 192")
    assert list(bad) == ["dead-1"]
    scans = per_device(schema, "max(scan)")
    assert scans["dead-1"] == pytest.approx(scans["ald-001"], abs=2), "it has rows at its rate"
    check(schema)


def test_devices_behind_a_gateway_share_its_connection(schema: Schema, tmp_path: Path) -> None:
    with Plant(tmp_path, more=f", units_per_port: {COUNT}") as gateway:
        assert len({device.port for device in gateway.devices}) == 1
        more = f", units_per_port: {COUNT}"
        device_file = fleet_file(tmp_path, count=COUNT, port=gateway.devices[0].port, more=more)
        with logging_into(schema, None, *FAST, device_file=device_file) as logger:
            wait_for(lambda: len(per_device(schema, "1", "quality = 192")) == COUNT, what="all devices")
            wait_for(lambda: gateway.status().connections == 1, what="the status of one connection")
            assert logger.stop().code == 0
    check(schema)


def test_without_a_database_scans_wait_in_the_spool(
    schema: Schema, plant: Plant, start_logger: Callable[..., Logger], tmp_path: Path
) -> None:
    """It starts first, the database comes later; a second signal ends it at once, the next run stores all."""
    spool, elsewhere = tmp_path / "spool", tmp_path / "sockets"
    elsewhere.mkdir()
    conninfo = f"host={elsewhere} dbname=plcsim user=postgres"
    logger = start_logger(
        schema, None, *FAST, "--drain", "60s", device_file=plant.write(), conninfo=conninfo, spool=spool
    )
    wait_for(lambda: status_of(spool).get("spool", {}).get("accepted", 0) > 30, 20, "accepted scans")
    logger.process.terminate()
    wait_for(lambda: "is stopping" in plclogger("status", "--spool", spool).stdout, 20)
    logger.process.terminate()
    ended = logger.wait()
    assert ended.code == 0
    waiting = ended.figures["spooled"]
    assert waiting >= ended.figures["scans"] > 0
    assert "waiting for the database: " in ended.complaints

    shown = plclogger("status", "--spool", spool)
    assert shown.returncode == 1
    assert "plant: has ended" in shown.stdout
    assert f"{waiting} in the spool" in shown.stdout

    refused = plclogger(
        "run", plant.file, "--database", schema.conninfo, "--schema", schema.name, "--spool", spool
    )
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
    assert f"scans wait here for the database {elsewhere}" in refused.stderr


@pytest.mark.parametrize("kept", [True, False])
def test_kill_9_loses_nothing_that_was_accepted(
    schema: Schema,
    plant: Plant,
    start_logger: Callable[..., Logger],
    proxy: Proxy,
    tmp_path: Path,
    kept: bool,
) -> None:
    """Killed while the database is away. Control: without the spool that was left, what waited is lost."""
    spool = tmp_path / "spool"
    options = {"device_file": plant.write(), "conninfo": proxy.conninfo, "spool": spool}
    logger = start_logger(schema, None, *FAST, **options)
    wait_for(lambda: len(per_device(schema, "1")) == COUNT, 20, "stored rows of all devices")
    proxy.refuses = True
    proxy.cut_all()
    wait_for(lambda: status_of(spool)["spool"]["depth"] > 5 * COUNT, 20, "scans that wait")
    logger.process.kill()
    logger.process.wait()
    assert "is gone" in plclogger("status", "--spool", spool).stdout
    accepted = status_of(spool)["spool"]["accepted"]
    assert proxy.landed["refused"] > 0
    proxy.refuses = False
    if not kept:
        shutil.rmtree(spool)
    with logging_into(schema, None, *FAST, "--for", "0.3s", **options) as again:
        ended = again.wait()
    assert ended.code == 0
    before = schema.value("SELECT sum(last_scan - first_scan + 1) FROM logging_transactions")
    before -= ended.figures["scans"]
    assert (before >= accepted) == kept
    assert ended.figures["gaps"] == (COUNT if kept else 0), "of each device what was due meanwhile"
    check(schema)


def test_a_folder_is_for_one_logger_at_a_time(
    schema: Schema, plant: Plant, start_logger: Callable[..., Logger]
) -> None:
    first = start_logger(schema, None, *FAST, device_file=plant.write())
    wait_for(lambda: status_of(spool_of(schema))["stored_rows"] > 0, 20, "stored rows")
    arguments = ("--database", schema.conninfo, "--schema", schema.name, "--spool", spool_of(schema))
    second = plclogger("run", plant.file, *arguments)
    assert second.returncode == 2
    assert f"another plclogger (process {first.process.pid}) uses it" in second.stderr
    shown = plclogger("status", "--spool", spool_of(schema))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"plant: runs (process {first.process.pid})" in shown.stdout
    assert shown.stdout.count(" connected ") == COUNT
    assert first.stop().code == 0


# -- several processes


def workers_of(logger: Logger) -> list[psutil.Process]:
    """The processes that log, of a logger with several."""
    children = psutil.Process(logger.process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_workers_share_the_devices(schema: Schema, plant: Plant) -> None:
    options = (*FAST, "--workers", 3, "--for", "1s")
    with logging_into(schema, None, *options, device_file=plant.write()) as logger:
        ended = logger.wait()
    assert (ended.code, ended.complaints) == (0, "")
    figures = ended.figures
    assert figures["devices"] == COUNT
    assert figures["scans"] == figures["stored_scans"] > 0
    assert figures["stored_rows"] == sum(per_device(schema, "count(*)").values())
    each = [status_of(spool_of(schema) / f"worker-{n}") for n in (1, 2, 3)]
    assert [[d["device_id"] for d in worker["devices"]] for worker in each] == [
        ["ald-001", "ald-004"],
        ["ald-002", "ald-005"],
        ["ald-003", "ald-006"],
    ]
    check(schema)


def test_a_worker_that_dies_is_started_again(
    schema: Schema, plant: Plant, start_logger: Callable[..., Logger]
) -> None:
    spool = spool_of(schema)
    logger = start_logger(schema, None, *FAST, "--workers", 2, device_file=plant.write())
    wait_for(lambda: len(per_device(schema, "1")) == COUNT, 30, "all devices")
    victim = status_of(spool / "worker-1")["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: status_of(spool / "worker-1")["pid"] != victim, 30, "another worker")
    ended = logger.stop(signal.SIGTERM)
    assert ended.code == 0
    assert ended.figures["restarts"] == 1
    assert "worker 1 was ended by SIGKILL: it starts again" in ended.complaints
    check(schema)
    gaps = schema.rows("SELECT DISTINCT device_id FROM scan_gaps ORDER BY 1")
    assert gaps == [("ald-001",), ("ald-003",), ("ald-005",)]


def test_workers_end_with_their_parent(
    schema: Schema, plant: Plant, start_logger: Callable[..., Logger]
) -> None:
    logger = start_logger(schema, None, *FAST, "--workers", 2, device_file=plant.write())
    wait_for(lambda: len(per_device(schema, "1")) == COUNT, 30, "all devices")
    workers = workers_of(logger)
    assert len(workers) == 2
    logger.process.kill()
    wait_for(lambda: not any(worker.is_running() for worker in workers), 30, "the workers to end")
    check(schema)


def test_what_waits_is_dealt_anew_to_other_workers(
    schema: Schema, plant: Plant, start_logger: Callable[..., Logger], proxy: Proxy, tmp_path: Path
) -> None:
    """Killed while the database is away, then again with another number of workers; it comes back last."""
    spool = tmp_path / "spool"
    options = {"device_file": plant.write(), "conninfo": proxy.conninfo, "spool": spool}
    proxy.refuses = True
    waiting = 0
    for workers in (2, 3, 1):
        logger = start_logger(schema, None, *FAST, "--workers", workers, **options)
        wait_for(lambda logger=logger: scans_of(logger, spool) >= 3, 30, "scans of every device")
        waiting = status_of(spool)["spool"]["depth"]
        victims = workers_of(logger)
        logger.process.kill()
        for victim in victims:
            victim.kill()
        logger.process.wait()
        wait_for(lambda: not any_uses(spool), 30, "the workers to end")
    assert proxy.landed["refused"] > 0
    proxy.refuses = False
    with logging_into(schema, None, *FAST, "--workers", 2, "--for", "0.3s", **options) as last:
        ended = last.wait()
    assert (ended.code, ended.figures["spooled"]) == (0, 0), ended.complaints
    assert ended.figures["gaps"] >= 3 * COUNT, "after each kill, of each device what was in hand"
    assert schema.value("SELECT sum(last_scan) FROM logging_streams") > waiting
    check(schema)


def scans_of(logger: Logger, spool: Path) -> int:
    """What its status says: the fewest scans that it has read of any device."""
    status = status_of(spool)
    if status.get("pid") != logger.process.pid or len(status["devices"]) < COUNT:
        return 0
    return int(min(device["scans"] for device in status["devices"]))


def any_uses(spool: Path) -> bool:
    """Whether any process has a file of this folder open."""
    return any(
        str(file.path).startswith(str(spool)) for process in psutil.process_iter() for file in _files(process)
    )


def _files(process: psutil.Process) -> list[Any]:
    try:
        return list(process.open_files())
    except psutil.Error:
        return []


def test_an_error_of_a_worker_is_the_loggers(schema: Schema, plant: Plant) -> None:
    schema.rows("UPDATE plcsim_schema SET version = 99")
    with logging_into(schema, None, *FAST, "--workers", 2, device_file=plant.write()) as logger:
        ended = logger.wait()
    assert (ended.code, ended.said) == (2, "")
    assert "has version 99" in ended.complaints.splitlines()[-1]
