"""A full disk under the spool: a small file system of its own, in an outage."""

from __future__ import annotations

from pathlib import Path

import pytest
from fix_postgres import Schema
from fix_proxy import Proxy
from spoiled import NO_MOUNT, SmallDisk, dies_of_a_full_disk
from survival import Life, check, lives, numbers_stored
from waiting import wait_for

BYTES, KEPT_FREE = 150_000, 512 << 10
"""Of the disk, and what a spool leaves of it to others."""


def is_full(life: Life) -> bool:
    """Whether it has met the end of its disk, or died of it."""
    said = life.complaints
    return "the disk is full" in said or "the disk was full" in said or not life.process.is_alive()


@pytest.mark.parametrize("policy", ["block", "drop-oldest", "control: an error like any other"])
def test_a_full_disk_costs_recorded_gaps_and_nothing_else(
    schema: Schema, running_machine: Path, proxy: Proxy, tmp_path: Path, policy: str
) -> None:
    is_control = policy.startswith("control")
    options = ("--interval", "10ms", "--drain", "20s")
    if policy == "drop-oldest":  # it drops whole segments, of which the disk must hold several
        options += ("--when-full", policy, "--spool-max-bytes", str(3 * BYTES))
    spoils = (dies_of_a_full_disk,) if is_control else ()
    with lives(schema.name, tmp_path, running_machine, proxy.conninfo, *options) as run:
        life = run.start(SmallDisk(run.spool, BYTES + KEPT_FREE), *spoils)
        wait_for(lambda: numbers_stored(schema) > 3 or not life.process.is_alive(), 60, "scans to be stored")
        if life.process.exitcode == NO_MOUNT:
            pytest.skip("mounting a file system is not allowed here")
        proxy.refuses = True
        proxy.cut_all()
        wait_for(lambda: is_full(life), 60, "a full disk")
        if is_control:
            ended = life.wait()
            assert ended.code == 1, ended.complaints
            return
        proxy.refuses = False
        if policy == "block":  # what was dropped may be in the forwarder's memory, and is stored then
            found = "SELECT count(*) FROM scan_gaps WHERE reason LIKE '%%the spool was full'"
            wait_for(lambda: schema.value(found), 60, "the gap record")
        stood = numbers_stored(schema)
        wait_for(lambda: numbers_stored(schema) > stood + 20, 60, "reading to go on")
        ended = life.end()
    assert (ended.code, ended.figures["spooled"]) == (0, 0), ended.complaints
    assert ("scans dropped" in ended.complaints) == (policy == "drop-oldest")
    reasons = dict(schema.rows("SELECT reason, sum(last_scan - first_scan + 1) FROM scan_gaps GROUP BY 1"))
    print(f"\n{reasons}, of {numbers_stored(schema)} scans that were due")
    check(schema)
