"""Devices whose faults a test adds and looks at, served by an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fix_emulator import DEADLINE_S, RawClient

from plcsim.device import Device
from plcsim.device_file import load_device
from plcsim.event_loop import new_event_loop
from plcsim.faults.engine import FaultStatus
from plcsim.faults.event import FaultEvent
from plcsim.faults.rules import FAULT_RULE
from plcsim.tcp.server import ModbusServer
from plcsim.unit import Unit

T = TypeVar("T")

MOVING = """
device: {device_id: moving, plc_scan_ms: 3600000, seed: 7}
groups:
  - name: moving
    table: holding_register
    consistent: false
    parameters:
      - {id: 1, component: c, name: scan, address: 0, type: uint32, signal: {kind: plc_scan}}
      - {id: 2, component: c, name: level, address: 2, type: float32, signal: {kind: constant, value: 20.5}}
      - {id: 3, component: c, name: raw, address: 4, type: int16, null_value: 0x8000,
         signal: {kind: constant, value: 5}}
      - {id: 4, component: c, name: plain, address: 5, type: uint16, signal: {kind: constant, value: 6}}
      - {id: 5, component: c, name: setpoint, address: 6, type: uint16, writable: true}
  - name: bits
    table: coil
    parameters:
      - {id: 11, component: c, name: coil_0, address: 0, type: bool, signal: {kind: constant, value: 1}}
      - {id: 12, component: c, name: coil_1, address: 1, type: bool, signal: {kind: constant, value: 0}}
"""
"""Registers 0 and 1 are the number of the PLC scan; a test lets it go on by hand, with Scanner.jump."""


class Site:
    """A server that runs, and the devices behind it by their unit ids."""

    def __init__(self, server: ModbusServer, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self._loop = loop

    def call(self, work: Callable[[], T]) -> T:
        """Have work done in the server's event loop."""
        done: Future[T] = Future()

        def do() -> None:
            try:
                done.set_result(work())
            except Exception as exc:  # noqa: BLE001  # it is raised where it was asked for
                done.set_exception(exc)

        self._loop.call_soon_threadsafe(do)
        return done.result(DEADLINE_S)

    def unit(self, unit_id: int = 1) -> Unit:
        return self.server.units[unit_id]

    def add(self, kind: str, unit_id: int = 1, **keys: Any) -> str:
        """Add a fault; what it does to connections and devices is done when this returns."""
        rule = FAULT_RULE.validate_python({"kind": kind} | keys)
        name = self.call(lambda: self.unit(unit_id).faults.add(rule))
        self.settle()
        return name

    def remove(self, name: str, unit_id: int = 1) -> None:
        self.call(lambda: self.unit(unit_id).faults.remove(name))
        self.settle()

    def settle(self) -> None:
        """Let the event loop go round until what the call started is done."""
        for _ in range(5):
            self.call(lambda: None)

    def status(self, unit_id: int = 1) -> FaultStatus:
        """Of the device's only fault."""
        (status,) = self.call(self.unit(unit_id).faults.rules)
        return status

    def events(self, unit_id: int = 1) -> list[FaultEvent]:
        return self.call(lambda: list(self.unit(unit_id).faults.events))

    def scan_on(self, plc_scans: int = 1) -> None:
        """Let the first device show a later PLC scan."""
        self.call(lambda: self.unit().scanner.jump(plc_scans))

    def connect(self) -> RawClient:
        return RawClient(self.server.port)


@contextmanager
def serving(units: Callable[[], Mapping[int, Unit]], uvloop: bool = True) -> Iterator[Site]:
    """A site until the end of the block; nothing may have gone wrong in its event loop."""
    started: Future[tuple[Site, asyncio.Event]] = Future()
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        try:
            async with ModbusServer(units()) as server:
                started.set_result((Site(server, loop), stop))
                await stop.wait()
        except Exception as exc:  # noqa: BLE001  # it is raised in the test
            started.set_exception(exc)

    def run() -> None:
        with asyncio.Runner(loop_factory=new_event_loop if uvloop else asyncio.new_event_loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        site, stop = started.result(DEADLINE_S)
        yield site
        site.call(stop.set)
    finally:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert complaints == []


@pytest.fixture(params=["uvloop", "asyncio"])
def either_loop(request: pytest.FixtureRequest) -> bool:
    """Whether a test is to use uvloop: it runs with both."""
    return bool(request.param == "uvloop")


@pytest.fixture
def moving_file(tmp_path: Path) -> Path:
    path = tmp_path / "moving.yaml"
    path.write_text(MOVING, encoding="utf-8")
    return path


def units_of(*files: Path, start_scan: int = 0) -> Callable[[], dict[int, Unit]]:
    """A device of each file, under unit ids from 1 on."""
    return lambda: {
        number: Unit(Device(load_device(file)), start_scan) for number, file in enumerate(files, 1)
    }


@pytest.fixture
def flat_site(flat_file: Path, either_loop: bool) -> Iterator[Site]:
    """The flat device, with either event loop."""
    with serving(units_of(flat_file), either_loop) as site:
        yield site


@pytest.fixture
def moving(moving_file: Path) -> Iterator[Site]:
    """The moving device at PLC scan 65535; the next one changes both registers of its number."""
    with serving(units_of(moving_file, start_scan=65535)) as site:
        yield site
