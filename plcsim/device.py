"""One PLC: its register image, replaced whole at each PLC scan, and what clients write into it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from plcsim.codec import Values
from plcsim.config import DeviceConfig
from plcsim.history import History
from plcsim.layout import Layout
from plcsim.look_ahead import AHEAD, LookAhead
from plcsim.memory import LOCAL, Origin, TableImage
from plcsim.missing_values import MissingValues
from plcsim.parameters import Table
from plcsim.signals import noise_key
from plcsim.truth import Truth
from plcsim.writes import Change, Event, Restart, Write, WriteRecord

log = logging.getLogger(__name__)

_FEW = 4
"""So many parameters are decoded one by one; more of them with all of the table."""


class Device:
    """Holds the register image of one PLC; not thread-safe, lives in one event loop.

    `scan(n)` makes the image of PLC scan n. Every read between two calls sees one and the same scan,
    but for what clients write: that shows at once, as in a PLC's memory, and is told to `on_write`, as
    restarts are. Parameters without a signal are such memory only: 0, or what was written last.
    Devices of one map, process and plc_scan_ms may share a `layout`.
    """

    def __init__(
        self,
        config: DeviceConfig,
        on_write: Callable[[Event], None] | None = None,
        layout: Layout | None = None,
    ) -> None:
        self.config = config
        self.plc_scan = 0
        self.epoch = 0
        """How often the device was restarted."""
        self._on_write = on_write
        self._layout = layout or Layout(config)
        self._tables = self._layout.tables
        spec = config.device
        turn = 1 + noise_key(spec.seed, spec.device_id, 0) % AHEAD
        self._ahead = LookAhead(Truth(config, self._layout), self._layout, turn)
        self._history = History(self._layout.plan)
        self.images = {
            table: TableImage(mapped.initial, 1 if table.is_bits else 2)
            for table, mapped in self._tables.items()
        }
        self.scan(0)

    def scan(self, plc_scan: int) -> None:
        """Replace the whole image by that of a PLC scan.

        What clients wrote holds from the PLC scan of the write on. If the number jumps back, it stays.
        """
        if plc_scan < self.plc_scan:
            self._history.go_back(self.plc_scan, plc_scan)
            self._ahead.outdate()
        self._ahead.show(plc_scan, self._history, self.images)
        self.plc_scan = plc_scan

    def restart(self) -> None:
        """Forget what was written and show PLC scan 0 of a new epoch, as after a loss of power."""
        self.epoch += 1
        log.info("%s restarts: epoch %d", self.config.device.device_id, self.epoch)
        if self._on_write:
            self._on_write(Restart(self.config.device.device_id, self.epoch, self.plc_scan))
        self._history = History(self._layout.plan)
        self._ahead.forget()
        for table, mapped in self._tables.items():
            self.images[table].data = mapped.initial
        self.plc_scan = 0
        self.scan(0)

    def snapshot(self) -> dict[Table, TableImage]:
        """The whole image as it is now; it stays so."""
        return {t: TableImage(image.data, image.bytes_per_address) for t, image in self.images.items()}

    def missing(self, table: Table) -> MissingValues:
        """How a table shows that its parameters have no value."""
        return self._tables[table].missing

    def is_readable(self, table: Table, address: int, count: int) -> bool:
        """Whether every address holds a parameter or is a gap that this device answers."""
        return self._tables[table].readable.all_in(address, count)

    def is_writable(self, table: Table, address: int, count: int) -> bool:
        """Whether every address belongs to a writable parameter."""
        return self._tables[table].writable.all_in(address, count)

    def accepts(self, table: Table, address: int, data: bytes) -> bool:
        """Whether every parameter that the data touches would stay within its limits.

        NaN is within no limits. The addresses must be writable.
        """
        touched = self._touched(table, address, data)
        parameters = self._tables[table].parameters[touched.start : touched.stop]
        if all(parameter.limits is None for parameter in parameters):
            return True
        values = self._decoded(table, touched, self._with(table, address, data))
        return all(
            parameter.limits is None or parameter.limits[0] <= value <= parameter.limits[1]
            for parameter, value in zip(parameters, values.tolist(), strict=True)
        )

    def write(self, table: Table, address: int, data: bytes, origin: Origin = LOCAL) -> None:
        """Put data (as in TableImage) at an address; the addresses must be writable.

        `on_write` is told before anything changes; if it raises, nothing does.
        """
        image = self.images[table]
        touched = self._touched(table, address, data)
        before, after = image.data, self._with(table, address, data)
        parameters = self._tables[table].parameters[touched.start : touched.stop]
        old = self._decoded(table, touched, before).tolist()
        new = self._decoded(table, touched, after).tolist()
        changes = tuple(
            Change(Write(self.plc_scan, parameter.parameter_id, value, self.epoch), earlier)
            for parameter, value, earlier in zip(parameters, new, old, strict=True)
        )
        width = image.bytes_per_address
        if self._on_write:
            start = width * address
            self._on_write(
                WriteRecord(
                    self.config.device.device_id,
                    origin,
                    table,
                    address,
                    _numbers(before[start : start + len(data)], width),
                    _numbers(data, width),
                    changes,
                )
            )
        log.info("%s %d written by %s: %s", table.value, address, origin.peer, changes)
        image.data = after
        for change in changes:
            self._history.add(change.write)
        if parameters:
            start, end = width * parameters[0].address, width * parameters[-1].end
            self._ahead.written(table, start, end, [p.parameter_id for p in parameters])

    def _touched(self, table: Table, address: int, data: bytes) -> range:
        count = len(data) // self.images[table].bytes_per_address
        return self._layout.parts.touching(table, address, address + count)

    def _with(self, table: Table, address: int, data: bytes) -> bytes:
        image = self.images[table]
        start = address * image.bytes_per_address
        return image.data[:start] + data + image.data[start + len(data) :]

    def _decoded(self, table: Table, touched: range, image: bytes) -> Values:
        data = np.frombuffer(image, dtype=np.uint8)
        if len(touched) > _FEW:
            return self._tables[table].codec.decode(data)[touched.start : touched.stop]
        parts = self._layout.parts
        values = [parts.of([c])[0].codec.decode(data) for c in parts.columns(table, touched)]
        return np.concatenate(values) if values else np.empty(0)


def _numbers(data: bytes, width: int) -> tuple[int, ...]:
    return tuple(np.frombuffer(data, dtype=">u2" if width == 2 else np.uint8).tolist())
