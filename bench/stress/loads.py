"""The loads that escalate, each tried one level at a time: a rate, a machine's parameters, connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from psycopg import Connection

from bench.analysis.breaking_point import Observation
from bench.load.failures import Failure
from bench.stress.criteria import Criteria, observed
from bench.stress.crowd import Crowd, CrowdRun, crowd
from bench.stress.crowd_worker import CrowdSettings, crowd_machine
from bench.stress.plan import EscalationPlan, Resource, StressPlan
from bench.stress.pressure import Pressure, watched
from bench.stress.server import Server
from bench.stress.window import Window, window_of
from logger.database import register_devices

Measured = tuple[Observation, Window | None, Pressure | None]
"""How a level went, with what was measured of it; None where nothing could begin."""


class Load(Protocol):
    """A load whose level can be chosen."""

    def try_level(self, level: float) -> Measured:
        """Load so much for a window."""


@dataclass
class _Bed:
    """What all loads stand on."""

    server: Server
    monitor: Connection[Any]
    schema: str
    crowd: Crowd
    plan: EscalationPlan

    @property
    def criteria(self) -> Criteria:
        return Criteria(self.plan.p99_ms)

    def measure(self, rate_per_s: float) -> tuple[Window, Pressure]:
        """Settle at the rate (0: as fast as it goes), then a window."""
        self.crowd.run(self.plan.settle_s, rate_per_s)
        with watched(self.monitor) as watch:
            run: CrowdRun = self.crowd.run(self.plan.window_s, rate_per_s)
        return window_of(run.attempts, run.schedule), watch.pressure(run)


class RateLoad:
    """Transactions a second, over a fixed number of connections."""

    def __init__(self, bed: _Bed) -> None:
        self._bed = bed
        bed.crowd.resize(bed.plan.rate_connections)
        bed.crowd.run(bed.plan.settle_s)
        bed.server.analyze(bed.schema)

    def try_level(self, level: float) -> Measured:
        window, pressure = self._bed.measure(level)
        return observed(window, pressure, self._bed.criteria), window, pressure


class ParametersLoad:
    """Parameters of one machine that is scanned at a fixed interval."""

    def __init__(self, bed: _Bed) -> None:
        self._bed = bed

    def try_level(self, level: float) -> Measured:
        bed, parameters = self._bed, round(level)
        with bed.server.connect(bed.schema) as connection:
            register_devices(connection, [crowd_machine(0, parameters, shared=False)])
        bed.crowd.resize(1, parameters=parameters)
        bed.crowd.run(bed.plan.settle_s, 1 / bed.plan.interval_s)
        bed.server.analyze(bed.schema)
        window, pressure = bed.measure(1 / bed.plan.interval_s)
        return observed(window, pressure, bed.criteria), window, pressure


class ConnectionsLoad:
    """Connections, each storing as fast as it goes."""

    def __init__(self, bed: _Bed, parameters: int) -> None:
        self._bed, self._parameters = bed, parameters
        self._registered = 0
        self._per_s: dict[int, float] = {}

    def try_level(self, level: float) -> Measured:
        bed, connections = self._bed, round(level)
        self._register(connections)
        failures = bed.crowd.resize(connections)
        if failures.get(Failure.TOO_MANY_CONNECTIONS):
            return Observation(False, "connections were refused", "max_connections of the server"), None, None
        window, pressure = bed.measure(0.0)
        best = max((per_s for n, per_s in self._per_s.items() if n < connections), default=0.0)
        self._per_s[connections] = window.per_s
        return observed(window, pressure, bed.criteria, best), window, pressure

    def _register(self, connections: int) -> None:
        new = range(self._registered, connections)
        if new:
            with self._bed.server.connect(self._bed.schema) as connection:
                register_devices(connection, [crowd_machine(i, self._parameters, shared=False) for i in new])
            self._registered = connections
            self._bed.server.analyze(self._bed.schema)


@contextmanager
def load(
    resource: Resource, arm: str, plan: StressPlan, server: Server, monitor: Connection[Any], schema: str
) -> Iterator[tuple[Load, Crowd]]:
    """The load of a resource through an arm, in a schema that has the machines of the rate's writers."""
    settings = CrowdSettings(server.conninfo, schema, arm, plan.parameters, shared=False)
    with crowd(settings, plan.workers if resource != "parameters" else 1) as writers:
        bed = _Bed(server, monitor, schema, writers, plan.escalation)
        match resource:
            case "rate":
                yield RateLoad(bed), writers
            case "parameters":
                yield ParametersLoad(bed), writers
            case "connections":
                yield ConnectionsLoad(bed, plan.parameters), writers
