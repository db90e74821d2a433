"""`plcbench demo`: the whole main job once, from an emulated machine to the answer.

A private database and emulator; the machine is logged for ten seconds through a recipe, everything
stored is verified against the truth; then `quick` says what synchronization costs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.load.emulators import emulated
from bench.oracle.invariants import Verification
from bench.oracle.verify import verify
from bench.sweep.spools import own_spool
from logger.database import connect
from logger.database.embedded import EmbeddedPostgres, data_folder
from logger.figures import Figures
from logger.service import run_logger
from logger.settings import Settings, at_address
from plcsim.config import DeviceConfig
from plcsim.device_file import load_device

LOGGED_S = 10.0
INTERVAL_S = 0.1


@dataclass(frozen=True)
class Demo:
    """What the demo's logging left in the database."""

    status: Figures
    verification: Verification
    processes: int
    """Process executions that were recorded."""
    process_rows: int


def demo_device() -> DeviceConfig:
    """The 84-parameter machine of this checkout."""
    return load_device(Path(__file__).parent.parent.parent / "configs" / "ald.yaml")


def log_and_verify(config: DeviceConfig, say: Callable[[str], None]) -> Demo:
    """Emulate, log and verify the machine in a database of its own, which is removed after."""
    folder = data_folder()
    folder.mkdir(parents=True, exist_ok=True)
    postgres = EmbeddedPostgres(Path(tempfile.mkdtemp(prefix="demo-", dir=folder)))
    try:
        with postgres as server, emulated([config]) as [(host, port)], own_spool() as spool:
            say(f"PostgreSQL runs in {server.folder}, the emulator listens at {host}:{port}")
            settings = Settings(
                (at_address(config, host, port),),
                server.conninfo,
                spool,
                interval_s=INTERVAL_S,
                duration_s=LOGGED_S,
            )
            status = run_logger(settings)
            with connect(server.conninfo) as connection:
                verification = verify(connection)
                row = connection.execute(
                    "SELECT (SELECT count(*) FROM process_executions),"
                    " (SELECT count(*) FROM process_data_points)"
                ).fetchone()
                assert row is not None
            return Demo(status, verification, *row)
    finally:
        postgres.remove()
