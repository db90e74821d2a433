"""mbpoll, a client that is not ours, reads and writes the emulated ALD machine's coils and registers."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_emulator import ALD_FILE, DEADLINE_S, HOUR_MS, Emulator, ald_device, emulating

from plcsim.device_file import load_device
from plcsim.parameters import ByteOrder, DataType, Parameter, Table
from plcsim.truth import Truth, Write

pytestmark = pytest.mark.skipif(
    shutil.which("mbpoll") is None and os.environ.get("CI") != "true",
    reason="mbpoll is not installed (apt-get install mbpoll); with CI=true this is a failure",
)

PLC_SCAN = 123_444
"""A plasma step, if a PLC scan takes an hour and so does each step; the machine stands still there."""
NUMBERS = {Table.COIL: "0", Table.DISCRETE_INPUT: "1", Table.INPUT_REGISTER: "3", Table.HOLDING_REGISTER: "4"}


class Mbpoll:
    def __init__(self, port: int) -> None:
        self._port = port

    def run(
        self, kind: str, address: int, *options: str, value: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """`mbpoll -t kind -r address`, once, addresses from 0; writes the value if there is one."""
        where = ["-m", "tcp", "-p", str(self._port), "-a", "1", "-0", "-1", "-o", "5"]
        command = ["mbpoll", *where, "-t", kind, "-r", str(address), *options, "127.0.0.1"]
        command += ["--", value] if value else []
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def read(self, kind: str, address: int, *options: str) -> list[str]:
        """What it prints behind `[address]:`."""
        done = self.run(kind, address, *options)
        assert done.returncode == 0, done.stderr
        return re.findall(r"^\[\d+\]:\s+(.*?)\s*$", done.stdout, re.MULTILINE)

    def write(self, kind: str, address: int, value: str) -> None:
        done = self.run(kind, address, value=value)
        assert done.returncode == 0, done.stderr
        assert "Written 1 references." in done.stdout


@pytest.fixture(scope="module")
def ald_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ald_device(tmp_path_factory.mktemp("ald"), HOUR_MS)


@pytest.fixture(scope="module")
def ald(ald_file: Path) -> Iterator[Emulator]:
    with emulating(ald_file, "--start-scan", str(PLC_SCAN)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def truth(ald_file: Path) -> Truth:
    return Truth(load_device(ald_file))


@pytest.fixture
def mbpoll(ald: Emulator) -> Mbpoll:
    return Mbpoll(ald.port)


def number(text: str) -> float:
    """A number as mbpoll prints it; it shows a register above 32767 with its signed value too."""
    return float(text.partition(" ")[0])


def raw_value(mbpoll: Mbpoll, parameter: Parameter) -> float:
    """The raw value, as mbpoll decodes it; for byte orders it does not know, from its hexadecimal."""
    table, address = NUMBERS[parameter.table], parameter.address
    if parameter.table.is_bits:
        bits = mbpoll.read(table, address, f"-c{parameter.width}")
        return sum(int(bit) << i for i, bit in enumerate(bits))
    if parameter.byte_order is ByteOrder.BADC:
        texts = mbpoll.read(f"{table}:hex", address, "-c2")
        swapped = b"".join(bytes.fromhex(text.removeprefix("0x"))[::-1] for text in texts)
        return struct.unpack(">i" if parameter.data_type is DataType.INT32 else ">I", swapped)[0]
    order = ["-B"] if parameter.byte_order is ByteOrder.ABCD else []
    if parameter.data_type is DataType.FLOAT32:
        return number(mbpoll.read(f"{table}:float", address, *order)[0])
    if parameter.data_type in (DataType.INT32, DataType.UINT32):
        return number(mbpoll.read(f"{table}:int", address, *order)[0])
    register = int(number(mbpoll.read(table, address)[0]))
    signed = parameter.data_type is DataType.INT16
    return struct.unpack(">h" if signed else ">H", struct.pack(">H", register))[0]


PARAMETERS = load_device(ALD_FILE).register_map.parameters
WRITTEN = (60, 61, 71, 79)
"""Parameters that the tests of writing change."""


@pytest.mark.parametrize(
    "parameter", [p for p in PARAMETERS if p.parameter_id not in WRITTEN], ids=lambda p: p.full_name
)
def test_mbpoll_reads_the_true_value(mbpoll: Mbpoll, truth: Truth, parameter: Parameter) -> None:
    true = truth.value_at(parameter.parameter_id, PLC_SCAN)
    value = raw_value(mbpoll, parameter) * parameter.scale + parameter.offset
    exact = parameter.data_type is not DataType.FLOAT32  # of which mbpoll prints six digits
    assert value == (true if exact else pytest.approx(true, rel=1e-5))


def test_the_machine_stands_at_a_plasma_step(mbpoll: Mbpoll) -> None:
    assert mbpoll.read("3", 2) == ["1"]
    assert mbpoll.read("3", 5) == ["6"]
    assert mbpoll.read("3:int", 0, "-B") == [str(PLC_SCAN)]


@pytest.mark.parametrize("value", ["1", "0"])
def test_mbpoll_writes_a_coil(mbpoll: Mbpoll, value: str) -> None:
    mbpoll.write("0", 37, value)
    assert mbpoll.read("0", 36, "-c3")[1] == value


@pytest.mark.parametrize("value", ["0", "31234", "36000"])
def test_mbpoll_writes_an_integer_within_its_limits(mbpoll: Mbpoll, value: str) -> None:
    mbpoll.write("4", 132, value)
    assert number(mbpoll.read("4", 132)[0]) == float(value)


@pytest.mark.parametrize("value", ["2.5", "0", "1100"])
def test_mbpoll_writes_a_float_within_its_limits(mbpoll: Mbpoll, value: str) -> None:
    mbpoll.write("4:float", 110, value)
    assert float(mbpoll.read("4:float", 110)[0]) == float(value)


@pytest.mark.parametrize(("kind", "address", "value"), [("4", 132, "36001"), ("4:float", 110, "-0.125")])
def test_mbpoll_is_told_that_a_value_is_outside_its_limits(
    mbpoll: Mbpoll, kind: str, address: int, value: str
) -> None:
    before = mbpoll.read(kind, address)
    done = mbpoll.run(kind, address, value=value)
    assert done.returncode == 1
    assert "Illegal data value" in done.stderr
    assert mbpoll.read(kind, address) == before


NUMBERS_OF_A_TYPE = [
    ("4", ["0", "1", "32767", "32768", "65535"]),
    ("4:hex", ["0x0000", "0x7FFF", "0xFFFF"]),
    ("4:int", ["0", "2147483647", "-2147483648", "-1"]),
    ("4:float", ["0", "-0.125", "123456", "1.5e+20"]),
]


@pytest.mark.parametrize("order", [[], ["-B"]], ids=["CDAB", "ABCD"])
@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind, values in NUMBERS_OF_A_TYPE for value in values]
)
def test_mbpoll_reads_back_what_it_wrote(flat: Emulator, kind: str, value: str, order: list[str]) -> None:
    mbpoll = Mbpoll(flat.port)
    done = mbpoll.run(kind, 150, *order, value=value)
    assert "Written 1 references." in done.stdout
    (read,) = mbpoll.read(kind, 150, *order)
    assert read.upper() == value.upper() if kind == "4:hex" else number(read) == float(value)


def test_mbpoll_reads_the_most_there_is(flat: Emulator) -> None:
    mbpoll = Mbpoll(flat.port)
    assert len(mbpoll.read("4", 100, "-c125")) == 125
    assert len(mbpoll.read("3:int", 100, "-c62")) == 62
    assert len(mbpoll.read("0", 100, "-c125")) == 125
    assert mbpoll.read("1", 0, "-c8") == ["1", "0", "0", "1", "0", "1", "1", "0"]


def test_mbpoll_reads_several_units(flat: Emulator) -> None:
    """It takes the answers of all unit ids for those of the one device that is there."""
    assert Mbpoll(flat.port).read("4", 7, "-a1,17:19") == 4 * ["7"]


def test_what_mbpoll_wrote_holds_at_the_next_plc_scans(tmp_path: Path) -> None:
    path = ald_device(tmp_path, 5)
    with emulating(path) as emulator:
        mbpoll = Mbpoll(emulator.port)
        mbpoll.write("4:float", 112, "312.5")
        before = int(mbpoll.read("3:int", 0, "-B")[0])
        while int(mbpoll.read("3:int", 0, "-B")[0]) < before + 3:
            assert float(mbpoll.read("4:float", 112)[0]) == 312.5
        heated = float(mbpoll.read("3:float", 19, "-B")[0])
    assert heated == pytest.approx(312.5, abs=0.41)
    follows = Truth(load_device(path)).value_at(9, before + 3, [Write(0, 61, 312.5)])
    assert heated == pytest.approx(follows, abs=0.81)


@pytest.mark.parametrize(
    ("kind", "address", "value"),
    [("4", 200, ""), ("3:float", 94, ""), ("0", 43, ""), ("1", 0, ""), ("4", 100, "1"), ("0", 32, "1")],
)
def test_mbpoll_says_why_it_is_refused(mbpoll: Mbpoll, kind: str, address: int, value: str) -> None:
    done = mbpoll.run(kind, address, value=value)
    assert done.returncode == 1
    assert "Illegal data address" in done.stderr
