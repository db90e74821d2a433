"""A synchronous standby that is away: what was committed without it stays in the spool."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fix_forwarder import SETTINGS, Storing, as_logged, stored_values
from fix_postgres import Schema, reachable_folder
from fix_scans import Oven
from waiting import wait_for

from logger.database import connect
from logger.database.embedded import EmbeddedPostgres
from logger.repositories.prepared import Session

IMPATIENT = replace(SETTINGS, deadline_s=0.3)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of its own, for the setting concerns every session."""
    folder = reachable_folder()
    with EmbeddedPostgres(folder / "postgresql", {"fsync": "off"}) as running:
        yield running.conninfo
    shutil.rmtree(folder)


@pytest.fixture
def alone(server: str) -> Iterator[Schema]:
    """Our tables there; the control connection waits for no standby."""
    made = Schema(server, "alone")
    made.rows("SET synchronous_commit = local")
    yield made
    standby(made, "")
    made.drop()


def standby(schema: Schema, name: str) -> None:
    """Let commits wait for this standby, which there is not; empty: for none."""
    with connect(schema.conninfo) as own:
        own.execute("SET synchronous_commit = local")
        own.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'".encode())
        own.execute("SELECT pg_reload_conf()")
        wait_for(
            lambda: own.execute("SHOW synchronous_standby_names").fetchone() == (name,), what="the setting"
        )


@pytest.mark.parametrize("streams", [1, 2])
def test_scans_stay_in_the_spool_until_the_standby_has_them(
    alone: Schema, tmp_path: Path, streams: int
) -> None:
    """One stream commits with its statement, several with a COMMIT."""
    ovens = [Oven(f"oven-{n}") for n in range(1, streams + 1)]
    run = Storing(alone, tmp_path, ovens, IMPATIENT)
    try:
        for key, oven in run.ovens.items():
            run.put(oven.scan(1), key=key)
        run.start()
        run.until_stored()
        standby(alone, "away")
        for key, oven in run.ovens.items():
            run.spool.put(key, oven.scan(2))
        run.spool.flush(10)
        wait_for(lambda: run.forwarder.figures().retries["find out"] >= 2, what="two tries")
        assert stored_values(alone) == as_logged(ovens[0].run_of(1, 2))  # they are here, but nowhere else
        assert run.waits() == streams
        wait_for(lambda: "standby" in run.forwarder.state, what="the state to say why")
        standby(alone, "")
        run.until_stored()
        assert run.scans_told.count(2) == streams
        for oven in ovens:
            stored = stored_values(alone, device=oven.layout.device_id)
            assert stored == as_logged(oven.run_of(1, 2))
        assert run.forwarder.figures().gaps == 0
    finally:
        standby(alone, "")
        run.close()


def test_control_without_hearing_the_notice_the_scans_are_released(
    alone: Schema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "check_replicated", lambda self: None)
    run = Storing(alone, tmp_path, [Oven()], IMPATIENT).start()
    try:
        run.put(Oven().scan(1))
        run.until_stored()
        standby(alone, "away")
        run.put(Oven().scan(2))
        wait_for(lambda: run.waits() == 0, what="the scan to leave the spool")
        assert run.forwarder.figures().scans == 2
    finally:
        standby(alone, "")
        run.close()
