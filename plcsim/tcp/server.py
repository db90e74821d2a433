"""Modbus TCP server: listens for the devices behind one port, admits and ends their connections."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from plcsim.errors import ListenError
from plcsim.faults.rules import ClockJump, MaxConnections, Refuse, Restart
from plcsim.server_config import ServerSpec, UnitPolicy, WhenFull
from plcsim.tcp.connection import Connection
from plcsim.tcp.listener import Listener
from plcsim.tcp.rights import everything
from plcsim.unit import Unit

log = logging.getLogger(__name__)

_SWEEPS_A_TIMEOUT = 4
"""How often connections are looked at for having been silent too long: the timeout is kept to a quarter."""


_AGAIN_S = 1.0
"""After so long it is tried again to listen where it could not be."""


class ModbusServer:
    """Serves the devices behind one port; an async context manager.

    One device, or several by their unit ids, as behind a gateway. `settings` are those of the first
    device where they are not given. Raises ListenError if it cannot listen, InputError if the files
    of its TLS settings cannot be used; `folder` is what their paths are relative to.
    """

    def __init__(
        self,
        units: Unit | Mapping[int, Unit],
        host: str | Sequence[str] = "127.0.0.1",
        port: int = 0,
        settings: ServerSpec | None = None,
        folder: Path = Path(),
    ) -> None:
        self.units = dict(units) if isinstance(units, Mapping) else {_unit_id(units): units}
        self.settings = settings or next(iter(self.units.values())).device.config.server
        self.requests = 0
        """Requests that were taken since the start, those to which a fault let nobody reply too."""
        self.refused_connections = 0
        """Connections that had to go because there were too many."""
        self.timed_out_connections = 0
        """Connections that were silent too long, or left a request unfinished too long."""
        answers_all = self.settings.unit_policy is UnitPolicy.ANY and len(self.units) == 1
        self.any_unit = next(iter(self.units.values())) if answers_all else None
        self._is_gateway = len(self.units) > 1
        self._connections: set[Connection] = set()
        self._listeners = [
            Listener(each, port, lambda: Connection(self, everything))
            for each in dict.fromkeys([host] if isinstance(host, str) else host)
        ]
        self._secure = self._secure_listeners(folder)
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._edge: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None

    def _secure_listeners(self, folder: Path) -> list[Listener]:
        spec = self.settings.tls
        if spec is None:
            return []
        from plcsim.tcp.tls import right_by_role, server_context  # takes 50 ms, and few need it

        context, right_of = server_context(spec, folder), right_by_role(spec.roles)
        return [
            Listener(plain.host, spec.port, lambda: Connection(self, right_of), context)
            for plain in self._listeners
        ]

    @property
    def port(self) -> int:
        """The port it listens at; what the system chose if 0 was asked for."""
        return self._listeners[0].port

    @property
    def tls_port(self) -> int | None:
        """The port for Modbus/TCP Security, if there is one."""
        return self._secure[0].port if self._secure else None

    @property
    def connections(self) -> int:
        """Clients that are connected now."""
        return len(self._connections)

    async def __aenter__(self) -> Self:
        try:
            for listeners in (self._listeners, self._secure):
                _bind(listeners)
            for unit in self.units.values():
                unit.scanner.start()
                unit.faults.start()
                unit.faults.watch(self._follow_faults)
            self._follow_faults()
            await self._open_or_refuse()
        except BaseException:
            await self._end()
            raise
        self._sweep_later()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        for unit in self.units.values():
            unit.faults.unwatch(self._follow_faults)
        # not cancelled: what is just being opened would stay open
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for timer in (self._edge, self._sweep, self._again):
            if timer:
                timer.cancel()
        for unit in self.units.values():
            await unit.scanner.stop()
        for listener in (*self._listeners, *self._secure):
            listener.close()
        for connection in list(self._connections):
            connection.close()
        await asyncio.sleep(0)  # replies go out; then nobody is waited for
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    def opened(self, connection: Connection) -> None:
        """Take note of a connection, or end it, or another, if there are too many."""
        self._connections.add(connection)
        for unit in self.units.values():
            for fault in unit.faults.open_now(MaxConnections):
                if len(self._connections) > fault.rule.connections:
                    unit.faults.has_landed(fault, unit.device.plc_scan, peer=connection.peer)
                    self._connections.discard(connection)
                    connection.reset()
                    return
        most = self.settings.max_connections
        if most and len(self._connections) > most:
            self.refused_connections += 1
            to_end = self._connection_to_end(connection)
            self._connections.discard(to_end)  # or the next one of this turn would find it here
            to_end.abort()

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    def _connection_to_end(self, newest: Connection) -> Connection:
        idle = [c for c in self._connections if c is not newest and not c.outstanding]
        if self.settings.when_full is WhenFull.REFUSE_NEWEST or not idle:
            return newest
        return min(idle, key=lambda c: c.heard_at)

    def _follow_faults(self) -> None:
        """Do what the rules on connections and devices ask for now, and again when a window next opens
        or closes."""
        # the next edge first: one that passes meanwhile is looked at twice, and not never
        edges = [edge for unit in self.units.values() if (edge := unit.faults.until_next_edge()) is not None]
        for unit in self.units.values():
            for fault in unit.faults.due_once(Restart, ClockJump):
                if isinstance(fault.rule, ClockJump):
                    unit.jump_clock(fault.rule.seconds)
                else:
                    unit.restart()
                unit.faults.has_landed(fault, unit.device.plc_scan)
                if isinstance(fault.rule, Restart) and not self._is_gateway:
                    for connection in list(self._connections):
                        connection.reset()
            restarting = any(fault.rule.for_s for fault in unit.faults.open_now(Restart))
            unit.is_away = self._is_gateway and restarting
        if self._is_refusing():  # at once, and again in case it is just being opened
            for listener in (*self._listeners, *self._secure):
                listener.refuse()
        self._in_background(self._open_or_refuse_again())
        if self._edge:
            self._edge.cancel()
        self._edge = asyncio.get_running_loop().call_later(min(edges), self._follow_faults) if edges else None

    async def _open_or_refuse(self) -> None:
        async with self._changing:
            for listener in (*self._listeners, *self._secure):
                if self._is_refusing():
                    listener.refuse()
                else:
                    await listener.open()

    async def _open_or_refuse_again(self) -> None:
        try:
            await self._open_or_refuse()
        except ListenError as exc:
            log.warning("%s; trying again", exc)
            self._again = asyncio.get_running_loop().call_later(_AGAIN_S, self._follow_faults)

    def _is_refusing(self) -> bool:
        refusing = False
        for unit in self.units.values():
            for fault in unit.faults.open_now(Refuse, Restart):
                if isinstance(fault.rule, Refuse) or (fault.rule.for_s and not self._is_gateway):
                    refusing = True
                    if isinstance(fault.rule, Refuse) and not fault.landed:
                        unit.faults.has_landed(fault, unit.device.plc_scan)
        return refusing

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _sweep_later(self) -> None:
        timeouts = [t for t in (self.settings.idle_timeout_s, self.settings.frame_timeout_s) if t]
        if timeouts:
            interval = min(timeouts) / _SWEEPS_A_TIMEOUT
            self._sweep = asyncio.get_running_loop().call_later(interval, self._sweep_now)

    def _sweep_now(self) -> None:
        """End connections that have been silent, or owe the rest of a request, for too long."""
        now = time.monotonic()
        idle_s = self.settings.idle_timeout_s or math.inf
        frame_s = self.settings.frame_timeout_s or math.inf
        for connection in list(self._connections):
            owes = connection.frame_since and now - connection.frame_since > frame_s
            is_idle = now - connection.heard_at > idle_s and not connection.outstanding
            if (owes or is_idle) and not connection.is_half_open:
                log.info("closing %s: %s", connection.peer, "request not complete" if owes else "idle")
                self.timed_out_connections += 1
                connection.abort()  # it may never fetch what is waiting for it
        self._sweep_later()


def _unit_id(unit: Unit) -> int:
    return unit.device.config.modbus.unit_id


def _bind(listeners: Sequence[Listener]) -> None:
    """Bind all at one port: where 0 was asked for, at the one that the first was given."""
    for listener in listeners:
        if listener is not listeners[0] and not listener.port:
            listener.port = listeners[0].port
        listener.bind()
