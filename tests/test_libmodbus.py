"""libmodbus, a client that is not ours: tests/libmodbus_client.c is compiled and talks to the emulator."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_emulator import BITS, DEADLINE_S
from fix_faults import Site
from fix_types import TypedDevice

from plcsim.parameters import ByteOrder, DataType

SOURCE = Path(__file__).parent / "libmodbus_client.c"
HEADERS = (Path("/usr/include/modbus"), Path("/usr/local/include/modbus"))
IS_THERE = shutil.which("cc") is not None and any(folder.is_dir() for folder in HEADERS)

pytestmark = pytest.mark.skipif(
    not IS_THERE and os.environ.get("CI") != "true",
    reason="libmodbus is not installed (apt-get install libmodbus-dev gcc); with CI=true this is a failure",
)

Client = Callable[..., dict[str, str]]
ADDRESS, VALUE = "Illegal data address", "Illegal data value"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Runs a part of the program: what it prints, by what stands before the colon."""
    assert IS_THERE, "libmodbus is not installed: apt-get install libmodbus-dev gcc"
    program = tmp_path_factory.mktemp("libmodbus") / "client"
    folders = [f"-I{folder}" for folder in HEADERS]
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, *folders, "-o", program, SOURCE, "-lmodbus"], check=True, timeout=60)

    def run(part: str, port: int, *arguments: int) -> dict[str, str]:
        command = [program, part, str(port), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return dict(line.split(": ", 1) for line in done.stdout.splitlines())

    return run


@pytest.fixture
def site(serve_flat: Callable[..., Site]) -> Site:
    return serve_flat(functions={"report_server_id": {"id": "plcsim 7"}})


def test_libmodbus_reads_and_writes_all_tables_up_to_their_limits(client: Client, site: Site) -> None:
    bits = [BITS >> i & 1 for i in range(32)]
    assert client("tables", site.server.port) == {
        "coils": " ".join(map(str, bits)),
        "discrete inputs": " ".join(str(1 - bit) for bit in bits),
        "holding registers": "1234 47f1 2000",
        "input registers": "0101 0101 0202 0202",
        "write coil": "1",
        "coil": "1",
        "write register": "1",
        "register": "c0de",
        "write 1968 coils": "1968",
        "read 2000 coils": "2000",
        "of them on": "1968",
        "write 123 registers": "123",
        "read 125 registers": "125",
        "different": "0",
    }


def test_libmodbus_mask_write_read_and_write_and_server_id(client: Client, site: Site) -> None:
    assert client("rarer", site.server.port) == {
        "mask write": "1",
        "masked": "0017",
        "write and read": "0000 00ff 00ff 00ff 0000",
        "server id": "9",
        "says": "plcsim 7, running",
    }


def test_libmodbus_is_told_that_there_is_no_server_id(
    client: Client, serve_flat: Callable[..., Site]
) -> None:
    assert client("rarer", serve_flat().server.port)["server id"] == "Illegal function"


def test_libmodbus_is_told_the_exception(client: Client, site: Site) -> None:
    assert client("refusals", site.server.port) == {
        "a hole": ADDRESS,
        "no coil": ADDRESS,
        "read only": ADDRESS,
        "read only coil": ADDRESS,
        "half writable": ADDRESS,
        "then": "1234",
    }


def test_libmodbus_and_the_device_mean_the_same_floats_in_all_four_orders(
    client: Client, typed: TypedDevice
) -> None:
    parameters = [typed.parameters[DataType.FLOAT32, order] for order in ByteOrder]
    addresses = [parameter.address for parameter in parameters]
    assert client("floats", typed.port, *addresses) == {
        "ABCD": "123456 -0.15625",
        "BADC": "123456 -0.15625",
        "CDAB": "123456 -0.15625",
        "DCBA": "123456 -0.15625",
    }
    changes = [record.changes for record in typed.records]
    written = [(change.write.parameter_id, change.write.value) for (change,) in changes]
    assert written == [(parameter.parameter_id, -0.15625) for parameter in parameters]
