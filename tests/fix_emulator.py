"""Running emulators: `plcsim run` as a real process, a device with known bytes, a client of raw bytes."""

from __future__ import annotations

import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

DEADLINE_S = 15.0
HOUR_MS = 3_600_000.0
ALD_FILE = Path(__file__).parent.parent / "configs" / "ald.yaml"

WITHOUT_UVLOOP = "import sys; sys.modules['uvloop'] = None; from plcsim.cli import main; main()"

READ_ONE = bytes.fromhex("03 0000 0001")
ONE = bytes.fromhex("03 02 1234")
READ_MANY = bytes.fromhex("03 0064 007d")
MANY_BYTES = 7 + 2 + 250
"""Requests to the flat device, the reply to the first, and the size of that to the second."""

BITS = 0b1010_0101_1100_0011_0000_1111_1001_0110
"""Coils 0 to 31 of the flat device, coil 0 in the least significant bit."""


class Emulator:
    """A `plcsim run` process that listens."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.banner = process.stdout.readline()
        listening = re.search(r":(\d+), a new register image", self.banner)
        self.port = int(listening[1]) if listening else 0

    def connect(self, buffer_bytes: int | None = None) -> RawClient:
        return RawClient(self.port, buffer_bytes)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """End it; its exit code, what it said behind the banner, and its complaints."""
        self.process.send_signal(number)
        said, complaints = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, said, complaints


class RawClient:
    """Sends bytes and reads exact replies; every wait has a deadline."""

    def __init__(self, port: int, buffer_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(DEADLINE_S)
        if buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * buffer_bytes)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part, f"closed after {len(data)} of {size} bytes: {data.hex(' ')}"
            data += part
        return bytes(data)

    def reply(self) -> tuple[int, int, bytes]:
        """The next reply: transaction id, unit id, PDU."""
        transaction, protocol, length, unit = struct.unpack(">HHHB", self.receive(7))
        assert protocol == 0
        return transaction, unit, self.receive(length - 1)

    def ask(self, pdu: bytes, transaction: int = 0x1234, unit: int = 1) -> bytes:
        """The reply PDU to a request PDU."""
        self.send(frame(pdu, transaction, unit))
        got = self.reply()
        assert got[:2] == (transaction, unit)
        return got[2]

    def rest(self) -> bytes:
        """Everything up to the end of the connection; a reset is an end too."""
        data = bytearray()
        try:
            while part := self.socket.recv(65536):
                data += part
        except ConnectionResetError:
            pass
        return bytes(data)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def frame(pdu: bytes, transaction: int = 0x1234, unit: int = 1) -> bytes:
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu


def seen(emulator: Emulator) -> None:
    """Return when the server has been round its event loop: what was sent before has arrived."""
    with emulator.connect() as other:
        assert other.ask(b"\x42") == b"\xc2\x01"


@contextmanager
def emulating(device_file: Path, *options: str, uvloop: bool = True) -> Iterator[Emulator]:
    """An emulator until the end of the block, which must be a clean one: exit code 0, nothing on stderr."""
    program = ["-m", "plcsim"] if uvloop else ["-c", WITHOUT_UVLOOP]
    command = [sys.executable, *program, "run", str(device_file), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            emulator = Emulator(process)
            assert emulator.port, (emulator.banner, *process.communicate(timeout=DEADLINE_S))
            yield emulator
            if process.returncode is None:
                code, _, complaints = emulator.stop()
                assert (code, complaints) == (0, "")
        finally:
            process.kill()


def ald_device(folder: Path, plc_scan_ms: float) -> Path:
    """A copy of configs/ald.yaml with another PLC scan time."""
    text = ALD_FILE.read_text(encoding="utf-8")
    assert text.count("plc_scan_ms: 100 ") == 1
    path = folder / "ald.yaml"
    path.write_text(text.replace("plc_scan_ms: 100 ", f"plc_scan_ms: {plc_scan_ms} "), encoding="utf-8")
    return path


def flat_device(folder: Path) -> Path:
    """A device whose bytes are known and stay: all tables, the largest requests, holes, both ends.

    Names say the place; zero unless noted. `_w` marks what clients may write.
    """
    groups = [
        group("coil", {0: ("uint32", BITS), 33: ("bool", 1), 34: ("bool", 0, "w"), 35: ("bool", 0, "w")}),
        group("coil", {100 + 32 * i: ("uint32", 0, "w") for i in range(63)}),
        group("discrete_input", {0: ("uint32", BITS ^ 0xFFFFFFFF)}),
        group("discrete_input", {32 * i: ("uint32", i) for i in range(1, 63)}),
        group(
            "holding_register",
            {0: ("uint16", 0x1234), 1: ("float32", 123456.0), 5: ("int16", -2), 7: ("uint16", 7, "w")}
            | {8: ("float32", 0, "w"), 10: ("uint16", 10), 65534: ("uint32", 0xDEADBEEF, "w")},
        ),
        group("holding_register", {100 + 2 * i: ("uint32", 0, "w") for i in range(63)}),
        group("input_register", {0: ("uint16", 0x4321), 65535: ("uint16", 0x55AA)}),
        group("input_register", {100 + 2 * i: ("uint32", i * 0x01010101) for i in range(63)}),
    ]
    identified = [parameter for each in groups for parameter in each["parameters"]]
    for number, parameter in enumerate(identified, 1):
        parameter["id"] = number
    for number, each in enumerate(groups):
        each["name"] = f"group {number}"
    device = {
        "device": {"device_id": "flat", "plc_scan_ms": HOUR_MS},
        "readable_gaps": [{"table": "holding_register", "address": 3, "count": 2}],
        "groups": groups,
    }
    path = folder / "flat.yaml"
    path.write_text(yaml.safe_dump(device), encoding="utf-8")
    return path


def group(table: str, places: dict[int, tuple[Any, ...]]) -> dict[str, Any]:
    """A group of constants: address -> (type, value) or, writable, (type, value, "w")."""
    parameters = [
        {
            "component": table,
            "name": f"at_{address}",
            "address": address,
            "type": data_type,
            "writable": bool(writable),
            "signal": {"kind": "constant", "value": float(value)},
        }
        for address, (data_type, value, *writable) in places.items()
    ]
    return {"table": table, "consistent": False, "parameters": parameters}


@pytest.fixture
def start_emulator() -> Iterator[Callable[..., Emulator]]:
    """Starts emulators as `emulating` does; they end with the test."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(emulating(*args, **kwargs))


@pytest.fixture(scope="session")
def flat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flat_device(tmp_path_factory.mktemp("flat"))


@pytest.fixture(scope="module")
def flat(flat_file: Path) -> Iterator[Emulator]:
    """An emulator of the flat device; tests of a module share it and write only what they read back."""
    with emulating(flat_file) as emulator:
        yield emulator


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def flat_either(request: pytest.FixtureRequest, flat_file: Path) -> Iterator[Emulator]:
    """The same on either event loop; it must not have logged anything when it ends."""
    with emulating(flat_file, uvloop=request.param == "uvloop") as emulator:
        yield emulator


@pytest.fixture
def client(flat: Emulator) -> Iterator[RawClient]:
    with flat.connect() as connected:
        yield connected


@pytest.fixture(scope="module")
def server(flat_either: Emulator) -> Emulator:
    """The flat device, on uvloop and on asyncio."""
    return flat_either


@pytest.fixture
def others(server: Emulator) -> Iterator[None]:
    """Another client is served before and after, whatever a test does."""
    with server.connect() as other:
        assert other.ask(READ_ONE) == ONE
        yield
        assert other.ask(READ_ONE) == ONE
