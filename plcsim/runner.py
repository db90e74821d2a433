"""Runs an emulator in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO

from plcsim.config import DeviceConfig
from plcsim.device import Device
from plcsim.event_loop import new_event_loop
from plcsim.server import ModbusServer
from plcsim.truth import Write
from plcsim.write_journal import append_write


def run_emulator(
    config: DeviceConfig,
    host: str,
    port: int,
    start_scan: int = 0,
    journal: Path | None = None,
    on_listening: Callable[[int], None] = lambda port: None,
) -> int:
    """Serve the device until SIGINT or SIGTERM; the return value counts skipped PLC scans.

    `on_listening` is called with the port once clients can connect. Writes of clients are appended
    to `journal`, so that the truth stays recomputable.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_serve(config, host, port, start_scan, journal, on_listening))


async def _serve(
    config: DeviceConfig,
    host: str,
    port: int,
    start_scan: int,
    journal: Path | None,
    on_listening: Callable[[int], None],
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    file: IO[str] | None = journal.open("a", encoding="utf-8") if journal else None

    def record(write: Write) -> None:
        if file:
            append_write(file, write)

    try:
        async with ModbusServer(Device(config, record), host, port, start_scan) as server:
            on_listening(server.port)
            await server.serve_until(stop)
        return server.late_scans
    finally:
        if file:
            file.close()
