"""Fleets of 10, 100 and 1,000 machines of 84 parameters, each polled once a second as a logger would:
start, memory, processor time, lateness of PLC scans. The poller's processor time is counted apart."""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import cast

import psutil
from figures import figure, finish

from logger.reading.read_plan import ReadBlock, plan_reads
from plcsim.device_file import load_device
from plcsim.event_loop import new_event_loop
from plcsim.limits import MBAP_HEADER_BYTES, FunctionCode
from plcsim.parameters import Table
from plcsim.plant import raise_file_limit
from plcsim.testing import FleetDevice, RunningFleet

ALD_FILE = Path(__file__).parent.parent / "configs" / "ald.yaml"
STARTS = 5
SECONDS = {10: 10, 100: 15, 1000: 40}
"""How long each fleet is polled, by its number of machines."""

_FUNCTION = {
    Table.COIL: FunctionCode.READ_COILS,
    Table.DISCRETE_INPUT: FunctionCode.READ_DISCRETE_INPUTS,
    Table.HOLDING_REGISTER: FunctionCode.READ_HOLDING_REGISTERS,
    Table.INPUT_REGISTER: FunctionCode.READ_INPUT_REGISTERS,
}

Exchange = tuple[bytes, int]
"""A request, and how many bytes its good reply has."""


@dataclass(frozen=True, slots=True)
class Polled:
    """What the poller saw."""

    polls: int
    missed: int
    """Polls that were not complete when the next was due, or were refused, or never answered."""
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a fleet cost while it was polled."""

    memory_mb: float
    """Of all its processes, shared pages counted in each."""
    cpu_ms_per_device_s: float


def exchange(block: ReadBlock) -> Exchange:
    data = (block.count + 7) // 8 if block.table.is_bits else 2 * block.count
    request = struct.pack(">HHHBBHH", 7, 0, 6, 1, _FUNCTION[block.table], block.address, block.count)
    return request, MBAP_HEADER_BYTES + 2 + data


class Client(asyncio.Protocol):
    """Reads all blocks of one machine, one after the other, whenever it is told to."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        self._exchanges = exchanges
        self._at = len(exchanges)
        self._received = 0
        self.completed = 0
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def poll(self) -> None:
        self.asked += 1
        if self._at == len(self._exchanges):
            self._at = 0
            self._transport.write(self._exchanges[0][0])

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received < self._exchanges[self._at][1]:
            return
        self._received = 0
        self._at += 1
        if self._at < len(self._exchanges):
            self._transport.write(self._exchanges[self._at][0])
        else:
            self.completed += 1


def poll(devices: list[FleetDevice], exchanges: list[Exchange], seconds: int) -> Polled:
    """Poll each device once a second, all of them spread over the second; in a process of its own."""
    raise_file_limit()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_poll(devices, exchanges, seconds))


async def _poll(devices: list[FleetDevice], exchanges: list[Exchange], seconds: int) -> Polled:
    loop = asyncio.get_running_loop()
    clients = []
    for device in devices:
        _, client = await loop.create_connection(lambda: Client(exchanges), device.host, device.port)
        clients.append(client)
    cpu_before, start = time.process_time(), time.monotonic()
    for number in range(seconds * len(clients)):
        wait = start + number / len(clients) - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        clients[number % len(clients)].poll()
    await asyncio.sleep(1.0)
    asked = sum(client.asked for client in clients)
    missed = asked - sum(client.completed for client in clients)
    return Polled(asked, missed, time.process_time() - cpu_before)


def fleet_file(folder: Path, count: int) -> Path:
    path = folder / "fleet.yaml"
    path.write_text(
        f"devices: [{{template: {ALD_FILE}, device_id: 'ald-{{n:04}}', count: {count}, port: 0, seed: 1, "
        "overrides: {plc_scan_ms: 1000}}]\n"
    )
    return path


def start_s(path: Path) -> float:
    """From the command's start until all devices listen."""
    command = [sys.executable, "-m", "plcsim", "fleet", str(path)]
    started_at = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        took = time.monotonic() - started_at
        process.terminate()
    return took


def measure(path: Path, count: int, exchanges: list[Exchange], poller: ProcessPoolExecutor) -> Cost:
    """Poll a fleet and print what was seen."""
    name = f"{count:,} machines"
    with RunningFleet(path) as fleet:
        supervisor = psutil.Process(fleet.process.pid)
        processes = [supervisor, *supervisor.children(recursive=True)]
        before, began_at = sum(map(_cpu_s, processes)), time.monotonic()
        polled = poller.submit(poll, fleet.devices, exchanges, SECONDS[count]).result()
        cpu_s, took = sum(map(_cpu_s, processes)) - before, time.monotonic() - began_at
        memory_mb = sum(process.memory_info().rss for process in processes) / 1e6
        status = fleet.status()
    p99_ms, max_ms = status.lateness.p99_ms or 0.0, status.lateness.max_ms or 0.0
    cost = Cost(memory_mb, 1000 * cpu_s / took / count)
    is_large = count == max(SECONDS)
    figure(f"{name}: polls", polled.polls, "polls")
    figure(f"{name}: missed polls", polled.missed, "polls", "= 0", polled.missed == 0)
    figure(f"{name}: lateness of PLC scans p99", p99_ms, "ms", "< 50", p99_ms < 50)
    figure(f"{name}: lateness of PLC scans max", max_ms, "ms")
    figure(f"{name}: skipped PLC scans", status.skipped_plc_scans, "PLC scans")
    bound = "< 600" if is_large else ""
    figure(f"{name}: memory of all processes", cost.memory_mb, "MB", bound, cost.memory_mb < 600)
    figure(f"{name}: processor time of the fleet", 100 * cpu_s / took, "% of a core")
    figure(f"{name}: processor time a machine", cost.cpu_ms_per_device_s, "ms/s")
    figure(f"{name}: processor time of the poller", 100 * polled.cpu_s / SECONDS[count], "% of a core")
    return cost


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def main() -> None:
    exchanges = [exchange(block) for block in plan_reads(load_device(ALD_FILE))]
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as poller,
    ):
        path = fleet_file(Path(folder), 100)
        took = median(start_s(path) for _ in range(STARTS))
        figure("100 machines: from the command to all of them listening", took, "s", "< 1", took < 1)
        costs = {}
        for count in SECONDS:
            costs[count] = measure(fleet_file(Path(folder), count), count, exchanges, poller)
    for larger, smaller in ((100, 10), (1000, 100)):
        ratio = costs[larger].cpu_ms_per_device_s / costs[smaller].cpu_ms_per_device_s
        name = f"processor time a machine, {larger:,} / {smaller:,} machines"
        figure(name, ratio, "times", "<= 1.2", ratio <= 1.2)
        ratio = costs[larger].memory_mb / larger / (costs[smaller].memory_mb / smaller)
        name = f"memory a machine, {larger:,} / {smaller:,} machines"
        figure(name, ratio, "times", "<= 1.2", ratio <= 1.2)
    finish()


if __name__ == "__main__":
    main()
