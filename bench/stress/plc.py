"""An emulated PLC in a process of its own that can lose its power, come back, and be given faults."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.load.emulators import signals_held
from plcsim.config import DeviceConfig
from plcsim.control.socket import ask
from plcsim.errors import PlcsimError
from plcsim.runner import run_emulator

_HOST = "127.0.0.1"
_START_S = 20.0


class EmulatedPlc:
    """A context manager; it keeps its port over restarts. `folder` holds its control socket."""

    def __init__(self, config: DeviceConfig, folder: Path) -> None:
        self.config = config
        self.host = _HOST
        self.port = 0
        self._control = folder / f"{config.device.device_id}.sock"
        self._process: SpawnProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.cut_power()

    def start(self) -> None:
        """Start it: registers and PLC scans begin anew. Raises PlcsimError."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_emulate, args=(self.config, self.port, self._control, theirs), daemon=True
        )
        with signals_held(signal.SIGINT, signal.SIGTERM):
            process.start()
            self._process = process
        theirs.close()
        with ours:
            try:
                self.port = int(ours.recv()) if ours.poll(_START_S) else 0
            except EOFError:
                self.port = 0
        if not self.port:
            raise PlcsimError(f"the emulator of {self.config.device.device_id} did not start")

    def cut_power(self) -> None:
        """End it at once (kill -9)."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None

    def add_fault(self, **rule: Any) -> None:
        """Put a fault in force, its keys as in a device file."""
        ask(self._control, {"op": "fault", "device": "all", "do": "add", "rule": rule})

    def clear_faults(self) -> None:
        ask(self._control, {"op": "fault", "device": "all", "do": "clear"})


def _emulate(config: DeviceConfig, port: int, control: Path, pipe: Pipe) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    run_emulator(config, [_HOST], port, on_listening=lambda port, _: pipe.send(port), control=control)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
