"""The server and the PLC scans that it serves: each reply shows one, and they come in time."""

from __future__ import annotations

import asyncio
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from fix_emulator import Emulator, RawClient, ald_device, frame
from waiting import wait_for

from plcsim.codec import Codec
from plcsim.device import Device
from plcsim.device_file import load_device
from plcsim.parameters import Table
from plcsim.tcp.server import ModbusServer
from plcsim.truth import Truth
from plcsim.unit import Unit


def counting_device(folder: Path, plc_scan_ms: float) -> Path:
    """62 registers pairs that all hold the PLC scan counter."""
    parameters = [
        {"id": i, "component": "plc", "name": f"scan_{i}", "address": 2 * i, "type": "uint32",
         "signal": {"kind": "plc_scan"}}
        for i in range(1, 63)
    ]  # fmt: skip
    counters = {"name": "counters", "table": "input_register", "parameters": parameters}
    device = {"device": {"device_id": "counting", "plc_scan_ms": plc_scan_ms}, "groups": [counters]}
    path = folder / "counting.yaml"
    path.write_text(yaml.safe_dump(device), encoding="utf-8")
    return path


COUNTERS = bytes.fromhex("04 0002 007c")


def plc_scans(reply: bytes) -> list[int]:
    """The different PLC scans that one reply shows, in the order of the registers."""
    return list(dict.fromkeys(struct.unpack(">62I", reply[2:])))


def test_every_reply_shows_one_plc_scan_and_they_only_go_up(
    tmp_path: Path, start_emulator: Callable[..., Emulator]
) -> None:
    with start_emulator(counting_device(tmp_path, 2)).connect() as client:
        replies = [client.ask(COUNTERS)]
        while plc_scans(replies[-1])[0] < plc_scans(replies[0])[0] + 200:
            replies.append(client.ask(COUNTERS))
    assert max(len(plc_scans(reply)) for reply in replies) == 1
    shown = [plc_scans(reply)[0] for reply in replies]
    assert shown == sorted(shown)
    assert len(set(shown)) > 100
    # Negative control: half of one reply and half of another is seen as torn.
    assert len(plc_scans(replies[0][:126] + replies[-1][126:])) == 2


def test_requests_that_come_together_are_answered_with_the_truth_of_one_plc_scan(
    tmp_path: Path, start_emulator: Callable[..., Emulator]
) -> None:
    groups = [(4, 0, 94), (4, 200, 14), (3, 100, 35), (1, 0, 43)]
    path = ald_device(tmp_path, 5)
    config = load_device(path)
    truth, visited = Truth(config), set()
    with start_emulator(path, "--start-scan", "1000").connect() as client:
        while len(visited) < 40:
            client.send(b"".join(frame(struct.pack(">BHH", *group)) for group in groups))
            values: dict[int, float] = {}
            for function, address, count in groups:
                table = {1: Table.COIL, 3: Table.HOLDING_REGISTER, 4: Table.INPUT_REGISTER}[function]
                inside = range(address, address + count)
                parameters = [p for p in config.register_map.in_table(table) if p.address in inside]
                data = np.frombuffer(client.reply()[2][2:], dtype=np.uint8)
                if function == 1:
                    data = np.unpackbits(data, bitorder="little")
                decoded = Codec(parameters, table, address).decode(data).tolist()
                values |= zip((p.parameter_id for p in parameters), decoded, strict=True)
            plc_scan = int(values[1])
            visited.add(plc_scan)
            expected = truth.values_at(np.array([plc_scan]))[0].tolist()
            assert [values[p.parameter_id] for p in config.register_map.parameters] == expected
    assert min(visited) >= 1000


def counter(client: RawClient) -> int:
    return plc_scans(client.ask(COUNTERS))[0]


def test_the_counter_starts_where_it_is_told_and_wraps(
    tmp_path: Path, start_emulator: Callable[..., Emulator]
) -> None:
    options = ("--start-scan", str(2**32 - 60))
    with start_emulator(counting_device(tmp_path, 10), *options).connect() as client:
        assert counter(client) >= 2**32 - 60
        wait_for(lambda: counter(client) < 1000, what="the wrap of the PLC scan counter")


def test_a_plc_that_was_held_up_goes_on_in_time_and_counts_what_it_skipped(
    tmp_path: Path, start_emulator: Callable[..., Emulator]
) -> None:
    emulator = start_emulator(counting_device(tmp_path, 10))
    with emulator.connect() as client:
        wait_for(lambda: counter(client) >= 20, what="20 PLC scans")
        first, start = counter(client), time.monotonic()
        emulator.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: time.monotonic() - start > 0.3, what="30 PLC scans' time")
        emulator.process.send_signal(signal.SIGCONT)
        wait_for(lambda: counter(client) > first + 40, what="the time that was lost")
        late = time.monotonic() - start - (counter(client) - first) * 0.01
    assert abs(late) < 0.05
    code, said, complaints = emulator.stop()
    assert (code, complaints) == (0, "")
    skipped = int(said.removesuffix(" PLC scans were skipped: this machine was too busy to compute them\n"))
    assert skipped >= 25


def test_what_breaks_the_plc_scanning_ends_the_serving(tmp_path: Path) -> None:
    class Broken(Device):
        def scan(self, plc_scan: int) -> None:
            if plc_scan > 2:
                raise ArithmeticError("division by zero")
            super().scan(plc_scan)

    async def main() -> None:
        async with ModbusServer(Unit(Broken(load_device(counting_device(tmp_path, 1))))) as server:
            await server.units[1].scanner.failed()

    with pytest.raises(ArithmeticError):
        asyncio.run(main())
