"""Reads one scan of a device: all requests in turn, each value with its quality and its time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from logger.errors import BadReply, ExceptionReply, PlcError, PlcNotConnected
from logger.reading.judge import Judge
from logger.reading.plc import BlockRead, PlcConnection
from logger.reading.read_plan import ReadBlock, Refused, plan_of, plan_reads
from logger.reading.refusals import find_refused, is_about_addresses
from logger.scan import Floats, Longs, Quality, Scan, ScanLayout, Text
from plcsim.codec import Bytes, Codec
from plcsim.config import DeviceConfig
from plcsim.limits import ExceptionCode
from plcsim.parameters import Table

log = logging.getLogger(__name__)

_QUALITY_OF_EXCEPTION: dict[int, Quality] = {
    ExceptionCode.ILLEGAL_FUNCTION: Quality.BAD_CONFIGURATION_ERROR,
    ExceptionCode.ILLEGAL_DATA_ADDRESS: Quality.BAD_CONFIGURATION_ERROR,
    ExceptionCode.ILLEGAL_DATA_VALUE: Quality.BAD_CONFIGURATION_ERROR,
    ExceptionCode.DEVICE_FAILURE: Quality.BAD_DEVICE_FAILURE,
    ExceptionCode.ACKNOWLEDGE: Quality.UNCERTAIN_LAST_USABLE,
    ExceptionCode.DEVICE_BUSY: Quality.UNCERTAIN_LAST_USABLE,
    ExceptionCode.MEMORY_PARITY_ERROR: Quality.BAD_DEVICE_FAILURE,
}
_MOST_COMPLAINTS = 20
"""Different errors that are logged before the PLC is well again; garbage would never end."""
_MOST_NAMES = 8
_PASSES = 4
"""Most times that a group in pieces is read until it stands still."""
ASK_AGAIN_S = 60.0
"""How long what a device refuses is left alone; ten times as long where it goes on refusing it."""


class _Coded(NamedTuple):
    """A request, how its data is decoded, and to which columns of the layout that goes."""

    block: ReadBlock
    codec: Codec
    columns: NDArray[np.intp]


_Span = tuple[Table, int, int]
"""Table, first address and count: what a request asks for."""
_Step = Sequence[_Coded]
"""What must be read together: one request, or the pieces of a consistent group."""


class _Reading:
    """The scan that is being read; arrays of shape (parameters,) in the order of the layout."""

    def __init__(self, size: int) -> None:
        self.values: Floats = np.full(size, np.nan)
        self.quality = np.full(size, Quality.GOOD, dtype=np.int16)
        self.recorded_at: Longs = np.empty(size, dtype=np.int64)
        self.texts: list[Text] = []

    def take(self, coded: _Coded, data: Bytes, at_us: int) -> None:
        """Put in what the reply holds that had arrived then."""
        values = coded.codec.decode(data)
        self.values[coded.columns] = values
        self.recorded_at[coded.columns] = at_us
        if coded.codec.has_texts:
            texts = coded.codec.texts(data, values)
            self.texts += (Text(int(coded.columns[place]), text) for place, text in texts)

    def fail(self, step: _Step, quality: Quality, now_us: int) -> None:
        """Put in that nothing came."""
        for coded in step:
            self.quality[coded.columns] = quality
            self.recorded_at[coded.columns] = now_us


class Reader:
    """Reads the scans of one poll group of a device."""

    def __init__(
        self,
        plc: PlcConnection,
        config: DeviceConfig,
        poll: str = "",
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._plc = plc
        self._config = config
        self._clock_ns = clock_ns
        self._layout = ScanLayout(config, poll)
        self._column_of = {p.parameter_id: i for i, p in enumerate(self._layout.parameters)}
        self._judge = Judge(self._layout)
        self._steps: list[_Step] = []
        self._ahead: dict[_Span, BlockRead | PlcError] = {}
        """Of the scan that is being read: what was asked for in one go and is not taken yet."""
        self._refused, self._refused_columns = Refused(), np.empty(0, dtype=np.intp)
        self._refused_before, self._ask_again_ns = Refused(), 0
        self._plan(Refused())
        self.errors = 0
        """Requests of the plan that were not answered with data."""
        self.failure = ""
        """Why nothing at all was read in the last scan; empty: something was."""
        self._complaints: set[str] = set()
        """What has been logged since the last scan without an error."""

    @property
    def refused(self) -> list[str]:
        """Full names of the parameters that the device refuses now."""
        return [self._layout.parameters[column].full_name for column in self._refused_columns]

    async def read(self, number: int) -> Scan:
        """One scan; what cannot be read is NaN with a quality that says why."""
        reading = _Reading(self._layout.size)
        started_ns = self._clock_ns()
        if self._refused and started_ns >= self._ask_again_ns:
            self._plan(Refused())
        if len(self._refused_columns):
            reading.quality[self._refused_columns] = Quality.BAD_CONFIGURATION_ERROR
            reading.recorded_at[self._refused_columns] = time.time_ns() // 1000
        self._ahead = await self._read_ahead()
        first: PlcError | None = None
        hopeless: PlcError | None = None
        for step in self._steps:  # a refusal makes a new list: this scan goes by the old one
            if hopeless is None:
                failed = await self._read_step(step, reading)
            else:  # one timeout a scan is enough
                failed = hopeless
                reading.fail(step, _quality_of(failed), time.time_ns() // 1000)
            if failed is not None:
                first = first or failed
                self._count(failed)
                if isinstance(failed, PlcNotConnected) or self._plc.is_silent:
                    hopeless = failed
        self._plc.scan_done()
        self._judge.judge(reading.values, reading.quality)
        self._sum_up(reading, first)
        texts = tuple(sorted(reading.texts)) if reading.texts else ()
        return Scan(
            number, reading.values, reading.quality, reading.recorded_at, started_ns=started_ns, texts=texts
        )

    async def _read_step(self, step: _Step, reading: _Reading) -> PlcError | None:
        """Read what must come together into the scan; what went wrong, if anything."""
        try:
            await self._take(step, reading)
        except PlcError as exc:
            if is_about_addresses(exc):
                return await self._read_around(step, reading, exc)
            reading.fail(step, _quality_of(exc), time.time_ns() // 1000)
            return exc
        return None

    async def _take(self, step: _Step, reading: _Reading) -> None:
        reads = [await self._read(coded.block) for coded in step]
        if len(step) > 1:
            reads = await self._standing_still(step, reads)
        for coded, read in zip(step, reads, strict=True):
            reading.take(coded, read.data, read.at_us)

    async def _read_ahead(self) -> dict[_Span, BlockRead | PlcError]:
        """What the device may be asked for in one go, as much at a time as it takes."""
        most = self._plc.max_outstanding
        ahead: dict[_Span, BlockRead | PlcError] = {}
        if most > 1:
            blocks = [coded.block for step in self._steps for coded in step]
            for n in range(0, len(blocks), most):
                some = blocks[n : n + most]
                ahead.update(zip(map(_span, some), await self._plc.read_together(some), strict=True))
                if self._plc.is_silent:  # one timeout a scan is enough
                    break
        return ahead

    async def _read(self, block: ReadBlock) -> BlockRead:
        read = self._ahead.pop(_span(block), None)
        if read is None:
            (read,) = await self._plc.read_together([block])
        if isinstance(read, PlcError):
            raise read
        return read

    async def _standing_still(self, step: _Step, before: list[BlockRead]) -> list[BlockRead]:
        """Pieces that come from one PLC scan: those that a second pass finds as the first left them."""
        for _ in range(_PASSES - 1):
            after = [await self._read(coded.block) for coded in step]
            if all(np.array_equal(a.data, b.data) for a, b in zip(before, after, strict=True)):
                return after
            before = after
        group = step[0].block.piece_of
        raise BadReply(f"the PLC at {self._plc.where} changes the group {group!r} faster than it can be read")

    async def _read_around(self, step: _Step, reading: _Reading, refusal: PlcError) -> PlcError | None:
        """Find what the device refuses, plan without it, and read the rest of this step."""
        now_us = time.time_ns() // 1000
        reading.fail(step, _quality_of(refusal), now_us)
        wanted = [p for coded in step for p in coded.block.parameters]
        try:
            found = Refused()
            for coded in step:
                found |= await find_refused(self._plc.read, coded.block)
            if found:
                self._plan(self._refused | found)
            for rest in self._coded(plan_of(self._config, wanted, self._refused)):
                for coded in rest:
                    reading.quality[coded.columns] = Quality.GOOD
                try:
                    await self._take(rest, reading)
                except PlcError as exc:
                    reading.fail(rest, _quality_of(exc), time.time_ns() // 1000)
                    raise
        except PlcError as exc:
            return exc
        return refusal if found else None

    def _plan(self, refused: Refused) -> None:
        """Plan without what is refused, and ask for it again in a while."""
        poll = self._layout.poll
        again = refused.is_within(self._refused_before)
        if not refused:
            self._refused_before = self._refused
        self._refused = refused
        columns = [self._column_of[i] for i in sorted(refused.parameters) if i in self._column_of]
        self._refused_columns = np.array(columns, dtype=np.intp)
        self._steps = self._coded(plan_reads(self._config, poll, refused))
        if refused:
            pause_s = 10 * ASK_AGAIN_S if again else ASK_AGAIN_S
            self._ask_again_ns = self._clock_ns() + round(pause_s * 1e9)
            if not again:
                log.warning("%s: the PLC refuses %s", self._layout.device_id, self._named_refused())

    def _named_refused(self) -> str:
        names = self.refused
        if not names:
            return "a request that reads so much at once: it is split"
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        return ", ".join(names[:_MOST_NAMES]) + more

    def _coded(self, blocks: Sequence[ReadBlock]) -> list[_Step]:
        coded = [
            _Coded(
                block,
                Codec(block.parameters, block.table, block.address),
                np.array([self._column_of[p.parameter_id] for p in block.parameters], dtype=np.intp),
            )
            for block in blocks
        ]
        steps: list[_Step] = []
        for group, members in groupby(coded, key=lambda c: c.block.piece_of):
            together = list(members)
            steps += [together] if group else [[one] for one in together]
        return steps

    def _sum_up(self, reading: _Reading, first: PlcError | None) -> None:
        """Say how the device is, from what went wrong first in a scan."""
        if first is None:
            self.failure = "" if self._steps else f"the PLC at {self._plc.where} refuses everything"
            if self._complaints and not self._refused:
                self._complaints.clear()
                log.warning("%s: the PLC answers everything again", self._layout.device_id)
        else:
            something = np.isfinite(reading.values).any() or reading.texts
            self.failure = "" if something else str(first)

    def _count(self, exc: PlcError) -> None:
        self.errors += 1
        message = f"{self._layout.device_id}: {exc}"
        if message not in self._complaints and len(self._complaints) < _MOST_COMPLAINTS:
            self._complaints.add(message)
            log.warning("%s", message)


def _span(block: ReadBlock) -> _Span:
    return block.table, block.address, block.count


def _quality_of(exc: PlcError) -> Quality:
    if isinstance(exc, ExceptionReply):
        return _QUALITY_OF_EXCEPTION.get(exc.code, Quality.BAD_COMMUNICATION)
    return Quality.BAD_NOT_CONNECTED if isinstance(exc, PlcNotConnected) else Quality.BAD_COMMUNICATION
