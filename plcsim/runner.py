"""Runs an emulator in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from plcsim.config import DeviceConfig
from plcsim.device import Device
from plcsim.errors import PlcsimError
from plcsim.event_loop import new_event_loop
from plcsim.server import ModbusServer
from plcsim.truth import Write
from plcsim.write_journal import append_write, open_journal


def run_emulator(
    config: DeviceConfig,
    host: str,
    port: int,
    start_scan: int = 0,
    journal: Path | None = None,
    on_listening: Callable[[int], None] = lambda port: None,
) -> int:
    """Serve the device until SIGINT or SIGTERM; the return value counts skipped PLC scans.

    `on_listening` is called with the port once clients can connect. What clients write is appended to
    `journal`, so that the truth stays recomputable; if that fails, raises PlcsimError.
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
    failures: list[OSError] = []
    with ExitStack() as stack:
        file = stack.enter_context(open_journal(journal)) if journal else None

        def record(write: Write) -> None:
            try:
                if file:
                    append_write(file, write)
            except OSError as exc:
                failures.append(exc)
                stop.set()

        async with ModbusServer(Device(config, record), host, port, start_scan) as server:
            on_listening(server.port)
            await server.serve_until(stop)
    if failures:
        raise PlcsimError(f"{journal}: cannot be written: {failures[0].strerror}; stopped")
    return server.late_scans
