"""A logger at work: PLCs, the lines to them, the logger's process, the line to its database, the database.

Everything ends with the block, whatever faults have done to it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.arms.spec import parse_arm
from bench.load.machine import machine
from bench.stress.logger_process import Before, LoggerProcess
from bench.stress.plc import EmulatedPlc
from bench.stress.proxy import TcpProxy, database_target, through
from bench.stress.server import NotMeasured, Server
from bench.sweep.spools import own_spool
from logger.errors import DatabaseError
from logger.settings import Settings, at_address
from logger.spool import SpoolLimits
from plcsim.errors import PlcsimError

_START_S = 30.0
_LOOK_S = 0.02
_NAME = "plcbench-logger"
"""By which the server knows the logger's connections."""


@dataclass(frozen=True)
class Rig:
    """What faults have at hand."""

    server: Server
    schema: str
    plcs: Sequence[EmulatedPlc]
    plc_lines: Sequence[TcpProxy]
    """Between the logger and each PLC."""
    line: TcpProxy
    """Between the logger and its database."""
    logger: LoggerProcess

    def backends(self) -> list[int]:
        """Process ids of the logger's backends; none while the server is away."""
        try:
            with self.server.connect() as connection:
                rows = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name = %s", (_NAME,)
                ).fetchall()
        except DatabaseError:
            return []
        return [int(pid) for (pid,) in rows]

    def start_logger(self) -> None:
        """Start it, and wait until it stores."""
        stood = len(self.logger.stored())
        self.logger.start()
        until(lambda: len(self.logger.stored()) > stood or not self.logger.is_alive, "the first scan")
        if not self.logger.is_alive:
            code = self.logger.exit_code
            raise PlcsimError(f"the logger ended with exit code {code}: {self.logger.complaint()}")


@contextmanager
def rig(
    server: Server,
    arm: str,
    parameters: int,
    plcs: int,
    interval_s: float,
    before: Callable[[Path], Sequence[Before]] = lambda spool: (),
    limits: SpoolLimits | None = None,
) -> Iterator[Rig]:
    """Set all of it up, not started logging yet. `before` is told the spool's folder.

    Raises NotMeasured for an arm that a logger cannot store through.
    """
    if not parse_arm(arm).is_ours:
        raise NotMeasured(f"a logger stores through a repository that keeps our tables, {arm} does not")
    configs = [machine(parameters, f"stress-{n + 1}") for n in range(plcs)]
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plcbench-stress-")))
        emulated = [stack.enter_context(EmulatedPlc(config, place)) for config in configs]
        lines = [stack.enter_context(TcpProxy((plc.host, plc.port))) for plc in emulated]
        schema = stack.enter_context(server.schema("stress", configs, arm))
        with server.connect() as connection:
            line = stack.enter_context(TcpProxy(database_target(connection)))
        spool = stack.enter_context(own_spool())
        settings = Settings(
            tuple(at_address(c, each.host, each.port) for c, each in zip(configs, lines, strict=True)),
            f"{through(line, server.conninfo)} application_name={_NAME}",
            spool,
            arm,
            interval_s,
            schema,
            limits=limits or SpoolLimits(),
            drain_s=20.0,
        )
        logger = LoggerProcess(settings, place, before(spool))
        stack.callback(logger.kill)
        yield Rig(server, schema, emulated, lines, line, logger)


def until(condition: Callable[[], object], what: str, seconds: float = _START_S) -> None:
    """Wait for a condition; raises PlcsimError when it takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise PlcsimError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(_LOOK_S)
