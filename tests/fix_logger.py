"""`plclogger` as a real process: run to its end, or started, watched and stopped; and what it stored."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fix_emulator import ALD_FILE, Emulator, ald_device, emulating
from fix_postgres import Schema

from logger.cli import main
from plcsim.config import DeviceConfig
from plcsim.device_file import load_device
from plcsim.truth import Truth

DEADLINE_S = 30.0
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "PLCSIM_"))}


@cache
def _spools() -> Path:
    """Where the loggers of this test process have their spools; removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="plcsim-spools-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def spool_of(schema: Schema, stream: object = 1) -> Path:
    """The spool of the logger that writes a stream of a schema: the next one goes on with it."""
    return _spools() / f"{schema.name}-{stream}"


_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(["logger.cli", "fix_logger"])


def plclogger(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `plclogger` to its end, in a process of its own that does not have to import it first.

    Its spool is new, and gone afterwards, unless one is named.
    """
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        spool = {"PLCLOGGER_SPOOL": str(Path(folder, "spool"))}
        program = Program(words, {**ENVIRONMENT, **spool, **environment})
        try:
            code = program.wait(DEADLINE_S)
        finally:
            program.close()
        return subprocess.CompletedProcess(words, code, program.said, program.complaints)


class Program:
    """A running `plclogger`, as subprocess.Popen has it; ends with `close`."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="plclogger-"))
        self._outputs = [self._folder / "stdout", self._folder / "stderr"]
        self._process = _fork.Process(target=_program, args=(words, environment, self._outputs))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.said = self.complaints = ""

    def poll(self) -> int | None:
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = DEADLINE_S) -> int:
        """Its exit code; what it said is in `said` and `complaints` then."""
        self._process.join(timeout)
        self.said, self.complaints = (path.read_text() if path.exists() else "" for path in self._outputs)
        code = self.poll()
        assert code is not None, f"plclogger did not end: {self.complaints}"
        return code

    def close(self) -> None:
        self.kill()
        self._process.join()
        shutil.rmtree(self._folder)


def _program(words: list[str], environment: dict[str, str], outputs: list[Path]) -> None:
    for descriptor, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["plclogger", *words]
    sys.modules["__main__"] = ModuleType("__main__")  # else its workers import pytest's
    main()


class Ended:
    """What a `plclogger` process left behind."""

    def __init__(self, code: int, said: str, complaints: str) -> None:
        self.code, self.said, self.complaints = code, said, complaints

    @property
    def figures(self) -> dict[str, Any]:
        """The line of JSON that --json prints."""
        figures: dict[str, Any] = json.loads(self.said)
        return figures


class Logger:
    """A `plclogger run` process."""

    def __init__(self, process: Program) -> None:
        self.process = process

    def stop(self, number: signal.Signals = signal.SIGINT) -> Ended:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> Ended:
        code = self.process.wait()
        return Ended(code, self.process.said, self.process.complaints)


@contextmanager
def logging_into(
    schema: Schema,
    port: int | None,
    *options: object,
    device_file: object = ALD_FILE,
    conninfo: str = "",
    spool: Path | None = None,
) -> Iterator[Logger]:
    """A logger of the machine at a port, into a schema, until the end of the block.

    Without a port the device file says where its devices are. The spool is that of the schema and stream.
    """
    words = [str(option) for option in options]
    stream = words[words.index("--stream") + 1] if "--stream" in words else "1"
    command = [
        "run", str(device_file), *(["--plc", f"127.0.0.1:{port}"] if port else []),
        "--database", conninfo or schema.conninfo, "--schema", schema.name,
        "--spool", str(spool or spool_of(schema, stream)), *words,
    ]  # fmt: skip
    program = Program(command, ENVIRONMENT)
    try:
        yield Logger(program)
    finally:
        program.close()


def stored_scans(schema: Schema) -> int:
    """How many scans there are; 0 while the stream is not yet."""
    return int(schema.value("SELECT count(DISTINCT scan) FROM parameter_value_history"))


def check_against_truth(schema: Schema, config: DeviceConfig) -> int:
    """Compare every stored value with the machine's truth at the PLC scan it was read with.

    Returns how many values were compared; those that were not read are none.
    """
    rows = schema.rows("SELECT scan, parameter_id, value FROM parameter_value_history WHERE quality = 192")
    scans: dict[int, dict[int, float]] = {}
    for scan, parameter_id, value in rows:
        scans.setdefault(scan, {})[parameter_id] = value
    truth, compared = Truth(config), 0
    column = {p.parameter_id: i for i, p in enumerate(config.register_map.parameters)}
    for group in config.groups:
        counter = next(p.id for p in group.parameters if p.signal and p.signal.kind == "plc_scan")
        for values in scans.values():
            if counter in values:
                expected = truth.values_at(np.array([int(values[counter])]))[0]
                stored = {p.id: values[p.id] for p in group.parameters}
                assert stored == {p.id: expected[column[p.id]] for p in group.parameters}
                compared += len(stored)
    return compared


@pytest.fixture(scope="session")
def ald() -> DeviceConfig:
    return load_device(ALD_FILE)


@pytest.fixture(scope="module")
def machine() -> Iterator[Emulator]:
    """The 84-parameter machine, about to start its recipe."""
    with emulating(ALD_FILE, "--start-scan", "15") as emulator:
        yield emulator


@pytest.fixture(scope="module")
def running_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file of a machine that runs; it says where."""
    folder = tmp_path_factory.mktemp("machine")
    path = ald_device(folder, 20)
    with emulating(path) as emulator:
        text = path.read_text(encoding="utf-8")
        assert text.count("port: 5020") == 1
        path.write_text(text.replace("port: 5020", f"port: {emulator.port}"), encoding="utf-8")
        yield path


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield free.getsockname()[1]


@pytest.fixture
def start_logger() -> Iterator[Callable[..., Logger]]:
    """Starts loggers as `logging_into` does; they end with the test."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(logging_into(*args, **kwargs))
