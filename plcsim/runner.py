"""Runs an emulator in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from plcsim.config import DeviceConfig
from plcsim.control.request import checked, matching, parse_request
from plcsim.control.socket import ControlServer
from plcsim.control.status import Meter, ProcessStatus, Status, with_faults_of
from plcsim.endpoint import Endpoint
from plcsim.event_loop import new_event_loop
from plcsim.journals import Journals
from plcsim.plant import Plant, raise_file_limit

_STATUS_S = 1.0

OnListening = Callable[[int, int | None], None]
"""Told the port, and that of Modbus/TCP Security if there is one."""


def run_emulator(
    config: DeviceConfig,
    hosts: Sequence[str],
    port: int,
    start_scan: int = 0,
    journal: Path | None = None,
    on_listening: OnListening = lambda port, tls_port: None,
    *,
    fault_journal: Path | None = None,
    request_journal: Path | None = None,
    control: Path | None = None,
    folder: Path = Path(),
) -> int:
    """Serve the device until SIGINT or SIGTERM; the return value counts skipped PLC scans.

    It listens at one port of all hosts; `on_listening` is called once clients can connect. What clients
    write is appended to `journal`, so that the truth stays recomputable, which faults landed to
    `fault_journal`, what clients ask to `request_journal`; if that fails, raises PlcsimError. `control` is
    where to put a control socket, `folder` what paths in the device file are relative to.
    """
    raise_file_limit()
    endpoint = Endpoint(tuple(hosts), port, (config,), folder)
    journals = journal, fault_journal, request_journal
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_serve(endpoint, start_scan, journals, control, on_listening))


async def _serve(
    endpoint: Endpoint,
    start_scan: int,
    journal_files: tuple[Path | None, Path | None, Path | None],
    control: Path | None,
    on_listening: OnListening,
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        journals = stack.enter_context(Journals())
        recorders = journals.recorders(*journal_files)
        plant = Plant([endpoint], start_scan, lambda config: recorders)
        await stack.enter_async_context(plant)
        desk = _Desk(plant, control)
        if control:
            await stack.enter_async_context(ControlServer(control, desk.handle))
        on_listening(plant.ports[0], plant.servers[0].tls_port)
        await first_of(stop.wait(), plant.failed(), journals.failed(), desk.look_each_second())
    return plant.status().skipped_plc_scans


class _Desk:
    """Answers what is asked of the emulator over its control socket."""

    def __init__(self, plant: Plant, control: Path | None) -> None:
        self._plant = plant
        self._meter = Meter("emulator", next(iter(plant.units)), control)
        self._status = self._look()

    async def look_each_second(self) -> None:
        while True:
            await asyncio.sleep(_STATUS_S)
            self._status = self._look()

    async def handle(self, message: dict[str, Any]) -> dict[str, Any]:
        request = parse_request(message)
        match request.op:
            case "status":
                return {"status": with_faults_of(self._status, [self._plant.status()]).to_json()}
            case "devices":
                return {"devices": self._plant.devices()}
        names = matching(request.device, list(self._plant.units))
        return checked(request, self._plant.fault(names, request))

    def _look(self) -> Status:
        return self._meter.look([ProcessStatus(1, 0, True, 0, self._plant.status())])


async def first_of(*work: Coroutine[Any, Any, Any]) -> None:
    """Wait until the first of these is done, end the others, and raise what it raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
