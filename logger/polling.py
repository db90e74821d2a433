"""The reading half of a process: a poller for each stream, all in one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from logger.figures import DeviceFigures
from logger.reading.clock_watch import ClockStep, ClockWatch
from logger.reading.plc import Lines, PlcConnection
from logger.reading.poller import Poller, ProcessState
from logger.reading.reader import Reader
from logger.reading.restart import gap_over_restart
from logger.reading.schedule import Due, Schedule, staggered
from logger.reading.ticker import Ticker
from logger.scan import Item, Scan, StreamKey
from logger.settings import LoggedStream
from logger.spool import Spool

OnScan = Callable[[Due, Scan], None]

_MOST_WAITING = 600
"""Scans that wait where a device is read as fast as it goes; more would only make them older."""
_LOOK_AGAIN_S = 0.005


@dataclass
class _Device:
    """What the pollers of one device share."""

    plc: PlcConnection
    process: ProcessState
    pollers: list[Poller] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)

    def figures(self, device_id: str) -> DeviceFigures:
        plc = self.plc.figures
        return DeviceFigures(
            device_id,
            state=self.plc.state,
            scans=sum(poller.scans for poller in self.pollers),
            missed=sum(poller.missed for poller in self.pollers),
            failed=sum(poller.failed for poller in self.pollers),
            read_errors=sum(reader.errors for reader in self.readers),
            requests=plc.requests,
            timeouts=plc.timeouts,
            bad_replies=plc.bad_replies,
            exceptions={str(code): count for code, count in sorted(plc.exceptions.items())},
            refused=sorted(name for reader in self.readers for name in reader.refused),
        )


class _AsItIsStored:
    """A spool for what is read as fast as it goes: lets it go no faster than it is stored."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._put = 0

    def put(self, key: StreamKey, item: Item) -> None:
        self._put += 1
        self._spool.put(key, item)

    def _is_behind(self) -> bool:
        figures = self._spool.figures()
        return self._put - figures.accepted + figures.depth >= _MOST_WAITING

    async def wait_for_room(self, stop: asyncio.Event) -> None:
        await self._spool.wait_for_room(stop)
        while self._is_behind() and not stop.is_set():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_AGAIN_S)  # other threads store it


class Polling:
    """Reads all streams when they are due; their phases are spread over their intervals."""

    def __init__(
        self,
        streams: Sequence[LoggedStream],
        spool: Spool,
        ticker: Ticker,
        on_scan: OnScan,
        on_step: Callable[[ClockStep], None],
    ) -> None:
        self._spool = spool
        self._paced = _AsItIsStored(spool)
        self._ticker = ticker
        self._on_scan = on_scan
        self._lines = Lines()
        self._clock = ClockWatch(on_step)
        self._devices: dict[str, _Device] = {}
        start_ns = time.monotonic_ns()
        for index, stream in enumerate(streams):
            start = staggered(start_ns, stream.interval_s, index, len(streams))
            self._add(stream, start if stream.interval_s else start_ns)

    def _add(self, stream: LoggedStream, start_ns: int) -> None:
        device = self._device_of(stream)
        reader = Reader(device.plc, stream.config, stream.group.name)
        poller = Poller(
            stream.key,
            reader,
            Schedule(stream.interval_s, self._first_scan(stream), start_ns=start_ns),
            stream.layout,
            self._spool if stream.interval_s else self._paced,
            self._ticker,
            device.process,
            stream.config.logging.on_failure,
            self._on_scan,
        )
        device.readers.append(reader)
        device.pollers.append(poller)

    def _device_of(self, stream: LoggedStream) -> _Device:
        name = stream.key.device_id
        if name not in self._devices:
            modbus = stream.config.modbus
            last = self._spool.last(stream.key)
            self._devices[name] = _Device(
                self._lines.unit(modbus.host, modbus.port, modbus),
                ProcessState(last.process_number if last else None),
            )
        return self._devices[name]

    def _first_scan(self, stream: LoggedStream) -> int:
        """Number of the first scan; those that were due while no logger ran have a gap record."""
        key, number = stream.key, self._spool.next_number(stream.key)
        gap = gap_over_restart(
            self._spool.last(key),
            self._spool.clean,
            stream.interval_s or stream.group.interval_s,
            time.time_ns() // 1000,
            number,
        )
        if gap is None:
            return number
        self._spool.put(key, gap)
        return gap.last_scan + 1

    async def run(self, stop: asyncio.Event, patience_s: float) -> None:
        """Poll until `stop` is set; the scans in hand are finished if they are within `patience_s`."""
        tasks = [
            asyncio.create_task(poller.run(stop))
            for device in self._devices.values()
            for poller in device.pollers
        ]
        waiting = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
            stop.set()  # a poller that ends before has failed
            done, _ = await asyncio.wait(tasks, timeout=patience_s)
        finally:
            for task in (waiting, *tasks):
                task.cancel()
            await asyncio.gather(waiting, *tasks, return_exceptions=True)
            self._lines.close()
        for task in done:
            task.result()

    def look(self) -> None:
        """Once a second: has somebody set the clock?"""
        self._clock.check()

    def figures(self) -> list[DeviceFigures]:
        return [device.figures(name) for name, device in self._devices.items()]
