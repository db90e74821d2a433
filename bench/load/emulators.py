"""Emulators in processes of their own, one a machine."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe

from bench.load.machine import machine
from bench.load.work import device_id_of
from plcsim.config import DeviceConfig
from plcsim.errors import PlcsimError
from plcsim.runner import run_emulator

_START_S = 20.0
_HOST = "127.0.0.1"


@contextmanager
def emulators(machines: Sequence[int], running: bool) -> Iterator[dict[int, tuple[str, int]]]:
    """Emulate the machines of so many parameters; gives where each listens."""
    configs = [machine(n, device_id_of(n), running) for n in machines]
    with emulated(configs) as addresses:
        yield dict(zip(machines, addresses, strict=True))


@contextmanager
def emulated(configs: Sequence[DeviceConfig]) -> Iterator[list[tuple[str, int]]]:
    """Emulate devices, each in its own process; gives where each listens."""
    context = multiprocessing.get_context("spawn")
    started = []
    try:
        for config in configs:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_emulate, args=(config, theirs), daemon=True)
            with signals_held(signal.SIGINT):
                process.start()
            theirs.close()
            started.append((process, ours))
        yield [(_HOST, _port(ours)) for _, ours in started]
    finally:
        for process, _ in started:
            process.terminate()
        for process, ours in started:
            process.join()
            ours.close()


@contextmanager
def signals_held(*signals: signal.Signals) -> Iterator[None]:
    """These signals wait meanwhile; processes that are started now never hear of them: we end those."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _emulate(config: DeviceConfig, pipe: Pipe) -> None:
    run_emulator(config, [_HOST], 0, on_listening=lambda port, _: pipe.send(port))


def _port(pipe: Pipe) -> int:
    try:
        if pipe.poll(_START_S):
            return int(pipe.recv())
    except EOFError:
        pass
    raise PlcsimError("an emulator did not start")
