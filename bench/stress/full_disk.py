"""Scenario: the disk below the spool is full, and the disk below the tables is full."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from bench.section import Section
from bench.stress.context import Stress, not_measured
from bench.stress.logger_process import LoggerProcess
from bench.stress.ordeal import Fault, Ordeal
from bench.stress.plan import StressPlan
from bench.stress.plan_faults import FullDiskPlan
from bench.stress.rig import Rig, rig, until
from bench.stress.server import NotMeasured, OwnPostgres, Server
from bench.stress.small_disk import NO_MOUNT, SmallDisk, free_bytes, in_thread, mount_privately, resize

NAME = "full_disk"
TITLE = "a spool and a tablespace that are full: what is given up, what is lost, when it goes on"

_FULL_S = 120.0
"""The longest time that filling may take."""
_NEARLY_BYTES = 1 << 20
"""So little is left when the fault begins to count."""
_AROUND_S = 15.0
_PREPARE_S = 10.0


def planned_seconds(plan: StressPlan) -> float:
    mine = plan.full_disk
    return 2 * (_PREPARE_S + mine.before_s + mine.seconds + _AROUND_S)


def run(bench: Stress, section: Section) -> None:
    """Both disks, with B's logger. Raises PlcsimError."""
    for what, fill in (("spool", _spool), ("tables", _tables)):
        try:
            fill(bench, section)
        except NotMeasured as exc:
            not_measured(section, f"disk of the {what}", str(exc))


def _spool(bench: Stress, section: Section) -> None:
    """The database is away until the spool is full and a while longer."""
    plan, arm = bench.plan.full_disk, bench.distinct_arms[-1]
    size = plan.spool_mb << 20
    with (
        bench.server() as server,
        rig(
            server, arm, bench.plan.parameters, plan.plcs, plan.interval_s,
            before=lambda spool: [SmallDisk(spool, size)],
        ) as made,
    ):  # fmt: skip
        ordeal = Ordeal(bench, section, made, plan, f"{arm} (spool)")
        _start(ordeal, made.logger)
        ordeal.suffer(
            [
                Fault(
                    f"spool's disk of {plan.spool_mb} MB full, the database away",
                    lambda rig: rig.line.cut(),
                    lambda rig: rig.line.mend(),
                    plan.seconds,
                    until=lambda rig: until(
                        lambda: rig.logger.said("the disk is full") or not rig.logger.is_alive,
                        "the spool's disk to be full",
                        _FULL_S,
                    ),
                )
            ]
        )
        ordeal.finish()


def _start(ordeal: Ordeal, logger: LoggerProcess) -> None:
    try:
        ordeal.start()
    finally:
        if logger.exit_code == NO_MOUNT:
            raise NotMeasured("mounting a small file system is not allowed here")


def _tables(bench: Stress, section: Section) -> None:
    """Logging goes on until the tablespace is full; after a while its disk grows."""
    plan, arm = bench.plan.full_disk, bench.distinct_arms[-1]
    with bench.server() as server:
        disk = _small_tablespace(server.own, plan)
        _use_for_tables(server, disk)
        with rig(server, arm, bench.plan.parameters, plan.plcs, plan.interval_s) as made:
            ordeal = Ordeal(bench, section, made, plan, f"{arm} (tables)")
            ordeal.start()
            ordeal.suffer([_full_tablespace(server.own, disk, plan)])
            ordeal.finish()


def _small_tablespace(own: OwnPostgres, plan: FullDiskPlan) -> Path:
    """Start the server again where a folder of its own is a small file system, which only it sees."""
    disk = own.folder / "small"
    disk.mkdir()
    owner = own.folder.stat()
    os.chown(disk, owner.st_uid, owner.st_gid)
    own.stop("fast")

    def start() -> None:
        mount_privately(disk, plan.tables_mb << 20)
        own.start()

    try:
        in_thread(start)
    except NotMeasured:
        own.start()
        raise
    return disk


def _use_for_tables(server: Server, disk: Path) -> None:
    with server.connect() as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}'".encode())
        ((database,),) = connection.execute("SELECT quote_ident(current_database())")
        connection.execute(f"ALTER DATABASE {database} SET default_tablespace = small".encode())


def _full_tablespace(own: OwnPostgres, disk: Path, plan: FullDiskPlan) -> Fault:
    def is_nearly_full(rig: Rig) -> bool:
        return free_bytes(own.postmaster_pid, disk) < _NEARLY_BYTES

    def is_refused(rig: Rig) -> bool:
        with suppress(OSError):
            return "could not extend file" in own.log_text()
        return False

    return Fault(
        f"disk of the tables full ({plan.tables_mb} MB)",
        begin=lambda rig: None,
        prepare=lambda rig: until(lambda: is_nearly_full(rig), "the disk of the tables to fill up", _FULL_S),
        until=lambda rig: until(lambda: is_refused(rig), "the server to say that its disk is full", _FULL_S),
        hold_s=plan.seconds,
        end=lambda rig: resize(own.postmaster_pid, disk, 16 * plan.tables_mb << 20),
    )
