"""Fixtures for pytest: emulated PLCs and fleets for the tests of other projects; see docs/testing.md.

A project that wants them says `pytest_plugins = ["plcsim.testing"]` in its conftest.py. Every wait has
a deadline, ports are free ones, and everything is stopped at the end of the test.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pytest

from plcsim.codec import Codec, decode_text, encode_text
from plcsim.config import DeviceConfig
from plcsim.control.request import fault_rule
from plcsim.control.socket import ask
from plcsim.control.status import Status
from plcsim.device_file import load_device, parse_device
from plcsim.endpoint import Endpoint
from plcsim.errors import InputError, PlcsimError
from plcsim.event_loop import new_event_loop
from plcsim.faults.engine import FaultEngine, FaultStatus
from plcsim.parameters import DataType, Parameter
from plcsim.plant import Plant, Recorders
from plcsim.truth import Truth
from plcsim.writes import Event, WriteRecord

T = TypeVar("T")

DEADLINE_S = 20.0
_HOST = "127.0.0.1"
_STEP_S = 0.02
_OF_DEVICE = ("device_id", "name", "seed", "plc_scan_ms")
_OF_MODBUS = ("unit_id", "max_registers", "max_coils")

DeviceSource = DeviceConfig | Path | str | dict[str, Any]


class Plc:
    """An emulated PLC in a thread of this process; all its methods may be called from any thread."""

    def __init__(self, config: DeviceConfig, folder: Path = Path()) -> None:
        """`folder` is what paths in the configuration are relative to."""
        self.config = config
        self.host = _HOST
        self._folder = folder
        self.unit_id = config.modbus.unit_id
        self.truth = Truth(config)
        """The true values at any PLC scan."""
        self._by_name = {p.full_name: p for p in config.register_map.parameters}
        self._events: list[Event] = []
        self._thread = _LoopThread()
        try:
            self._plant = self._thread.run(self._start())
        except BaseException:
            self._thread.stop()
            raise
        self.port = self._plant.ports[0]
        self._unit = next(iter(self._plant.units.values()))
        self.device = self._unit.device
        """The live device; belongs to the emulator's thread."""
        self.faults = PlcFaults(self._unit.faults, self._do)

    async def _start(self) -> Plant:
        endpoint = Endpoint((self.host,), 0, (self.config,), self._folder)
        plant = Plant([endpoint], recorders=lambda config: Recorders(self._events.append))
        return await plant.__aenter__()

    @property
    def plc_scan(self) -> int:
        """Number of the PLC scan whose values it shows."""
        return self._do(lambda: self.device.plc_scan)

    @property
    def connections(self) -> int:
        """Clients that are connected now."""
        return self._do(lambda: self._plant.servers[0].connections)

    @property
    def requests(self) -> int:
        """Requests that were answered."""
        return self._do(lambda: self._plant.servers[0].requests)

    def value(self, name: str) -> float | str:
        """What a parameter (component.name) shows now, as a client would decode it."""
        parameter = self._parameter(name)
        data = self._do(lambda: self._registers(parameter))
        if parameter.data_type is DataType.STRING:
            return decode_text(data, parameter)
        values = _codec(parameter).decode(np.frombuffer(data, dtype=np.uint8))
        return float(values[0])

    def set(self, name: str, value: float | str) -> None:
        """Write a parameter, as its operator panel would. Raises InputError if it is not writable."""
        parameter = self._parameter(name)
        if not parameter.writable:
            raise InputError(f"{name}: is not writable; its signal makes its value")
        self._do(lambda: self._write(parameter, value))

    def writes(self) -> list[WriteRecord]:
        """What clients wrote (and `set`) since the start, in order."""
        return [event for event in list(self._events) if isinstance(event, WriteRecord)]

    def restart(self, down_s: float | None = None) -> None:
        """Cut its power: connections are reset, writes forgotten, PLC scans begin again; with `down_s`
        it refuses connections for so long."""
        name = self.faults.add(kind="restart", for_s=down_s)
        if down_s is None:
            self.faults.remove(name)

    def stop(self) -> None:
        """End it; its port refuses connections from now on. The test's end does it too."""
        if not self._thread.is_stopped:
            try:
                self._thread.run(self._plant.__aexit__(None, None, None))
            finally:
                self._thread.stop()

    def _parameter(self, name: str) -> Parameter:
        if name not in self._by_name:
            raise InputError(f"{name}: is not a parameter (component.name) of {self.config.device.device_id}")
        return self._by_name[name]

    def _registers(self, parameter: Parameter) -> bytes:
        image = self.device.images[parameter.table]
        width = image.bytes_per_address
        return image.data[width * parameter.address : width * parameter.end]

    def _write(self, parameter: Parameter, value: float | str) -> None:
        if isinstance(value, str):
            data = encode_text(value, parameter)
        else:
            changed = np.frombuffer(self._registers(parameter), dtype=np.uint8).copy()
            _codec(parameter).encode(np.array([value], dtype=np.float64), changed)
            data = changed.tobytes()
        self.device.write(parameter.table, parameter.address, data)

    def _do(self, work: Callable[[], T]) -> T:
        async def in_loop() -> T:
            return work()

        return self._thread.run(in_loop())


class PlcFaults:
    """The faults of one PLC."""

    def __init__(self, engine: FaultEngine, do: Callable[[Callable[[], Any]], Any]) -> None:
        self._engine = engine
        self._do = do

    def add(self, **keys: Any) -> str:
        """Add a fault with the keys of a device file, kind="delay", seconds=0.5; returns its name.

        Keys that are None count as not given. Raises ConfigError.
        """
        rule = fault_rule({key: value for key, value in keys.items() if value is not None})
        return str(self._do(lambda: self._engine.add(rule)))

    def remove(self, name: str) -> None:
        """Remove a fault. Raises InputError if there is none of this name."""
        self._do(lambda: self._engine.remove(name))

    def clear(self) -> None:
        """Remove all faults, those of the device file too."""
        self._do(self._engine.clear)

    def list(self) -> list[FaultStatus]:
        """All faults, with how many requests fitted and on how many they landed."""
        return list(self._do(self._engine.rules))

    def landed(self, name: str | None = None) -> int:
        """How often a fault has landed; without a name, all since the start."""
        if name is None:
            return int(self._do(lambda: self._engine.landed))
        for fault in self.list():
            if fault.name == name:
                return fault.landed
        raise InputError(f"fault {name!r}: there is no such fault")


class _LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="plcsim", daemon=True)
        self._thread.start()
        self.is_stopped = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        if self.is_stopped:
            work.close()
            raise PlcsimError("this PLC was stopped")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    def stop(self) -> None:
        self.is_stopped = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()


@dataclass(frozen=True, slots=True)
class FleetDevice:
    """Where a device of a fleet can be reached."""

    device_id: str
    host: str
    port: int
    unit_id: int
    plc_scan_ms: float


class RunningFleet:
    """A `plcsim fleet` process and its workers; a context manager that ends them."""

    def __init__(
        self,
        fleet_file: Path | str,
        processes: int | None = None,
        journal_folder: Path | None = None,
        request_journal: Path | None = None,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="plcsim-"))
        self._control = self._folder / "control.sock"
        self._said = (self._folder / "stderr").open("w+", encoding="utf-8")
        command = [sys.executable, "-m", "plcsim", "fleet", str(fleet_file), "--control", str(self._control)]
        if processes:
            command += ["--processes", str(processes)]
        if journal_folder:
            command += ["--journal-dir", str(journal_folder)]
        if request_journal:
            command += ["--request-journal", str(request_journal)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._said)
        self.devices: list[FleetDevice] = []

    def __enter__(self) -> Self:
        deadline = time.monotonic() + DEADLINE_S
        while not self._is_up():
            if self.process.poll() is not None:
                problem = self.said()
                self.stop()
                raise PlcsimError(problem or "the fleet ended")
            if time.monotonic() > deadline:
                self.stop()
                raise PlcsimError(f"the fleet did not start within {DEADLINE_S:g} s")
            time.sleep(_STEP_S)
        found = ask(self._control, {"op": "devices"})["devices"]
        self.devices = [FleetDevice(**device) for device in found]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def status(self) -> Status:
        """How the fleet is; made anew each second."""
        return Status.from_json(ask(self._control, {"op": "status"})["status"])

    def fault(self, device: str, **keys: Any) -> None:
        """Add a fault, with the keys of a device file, to a device, to those of a pattern, or to all."""
        ask(self._control, {"op": "fault", "device": device, "do": "add", "rule": keys})

    def faults(self, device: str = "all") -> list[dict[str, Any]]:
        """The faults of devices, with how many requests fitted and on how many they landed."""
        return list(ask(self._control, {"op": "fault", "device": device, "do": "list"})["faults"])

    def clear_faults(self, device: str = "all") -> None:
        """Remove all faults of devices."""
        ask(self._control, {"op": "fault", "device": device, "do": "clear"})

    def said(self) -> str:
        """What it complained of on stderr."""
        self._said.flush()
        return (self._folder / "stderr").read_text(encoding="utf-8").strip()

    def stop(self) -> int:
        """End it; its exit code."""
        if self._folder.exists():
            self.process.terminate()
            try:
                self.process.wait(DEADLINE_S)
            finally:
                self.process.kill()
                self.process.wait()
                self._said.close()
                shutil.rmtree(self._folder)
        return int(self.process.returncode)

    def _is_up(self) -> bool:
        try:
            return bool(ask(self._control, {"op": "status"}))
        except PlcsimError:
            return False


def device_config(source: DeviceSource, **overrides: Any) -> DeviceConfig:
    """The device of a file, of a mapping as in a file, or one that is loaded already, with changes.

    `overrides` are keys of the device (seed, plc_scan_ms, …), of modbus (unit_id, …) or whole sections
    (faults, server, …). Raises ConfigError.
    """
    if isinstance(source, DeviceConfig):
        config = source
    elif isinstance(source, dict):
        config = parse_device(source)
    else:
        config = load_device(source)
    if not overrides:
        return config
    data = config.to_json()
    for key, value in overrides.items():
        section = "device" if key in _OF_DEVICE else "modbus" if key in _OF_MODBUS else None
        if section:
            data.setdefault(section, {})[key] = value
        else:
            data[key] = value
    return parse_device(data)


def _codec(parameter: Parameter) -> Codec:
    return Codec([parameter], parameter.table, parameter.address)


@pytest.fixture
def plc() -> Iterator[Callable[..., Plc]]:
    """Makes emulated PLCs: `plc("device.yaml", plc_scan_ms=50)` is one that listens at a free port."""
    with ExitStack() as stack:

        def start(source: DeviceSource, **overrides: Any) -> Plc:
            folder = Path(source).parent if isinstance(source, Path | str) else Path()
            started = Plc(device_config(source, **overrides), folder)
            stack.callback(started.stop)
            return started

        yield start


@pytest.fixture
def fleet() -> Iterator[Callable[..., RunningFleet]]:
    """Starts fleets: `fleet("fleet.yaml")` is a running one, supervised, in processes of its own."""
    with ExitStack() as stack:
        yield lambda file, processes=None: stack.enter_context(RunningFleet(file, processes))
