"""The memory of a device as a read sees it on which faults lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from plcsim.device import Device
from plcsim.faults.engine import ActiveFault
from plcsim.faults.image_rules import ImageRule, Images, Sight
from plcsim.faults.selection import span_of
from plcsim.memory import Origin, TableImage
from plcsim.parameters import Table
from plcsim.protocol.pdu import Request


class SpoiledMemory:
    """Shows one read of a device through image faults; the device itself stays as it is.

    The faults do their work when the table is looked at, which is after the request was found to be
    right: `landed` is called for each that changed what the read shows.
    """

    def __init__(
        self,
        device: Device,
        previous: Images,
        request: Request,
        hits: Sequence[ActiveFault[ImageRule]],
        landed: Callable[[ActiveFault[ImageRule]], None],
    ) -> None:
        self._device = device
        self._previous = previous
        self._request = request
        self._hits = hits
        self._landed = landed

    @property
    def images(self) -> Mapping[Table, TableImage]:
        return _Images(self._show)

    def is_readable(self, table: Table, address: int, count: int) -> bool:
        return self._device.is_readable(table, address, count)

    def is_writable(self, table: Table, address: int, count: int) -> bool:
        return self._device.is_writable(table, address, count)

    def accepts(self, table: Table, address: int, data: bytes) -> bool:
        return self._device.accepts(table, address, data)

    def write(self, table: Table, address: int, data: bytes, origin: Origin) -> None:
        self._device.write(table, address, data, origin)

    def _show(self, table: Table) -> TableImage:
        address, count = span_of(self._request) or (0, 0)
        image = self._device.images[table]
        begin, end = address * image.bytes_per_address, (address + count) * image.bytes_per_address
        data = bytearray(image.data[begin:end])
        for hit in self._hits:
            if hit.frozen is None:
                hit.frozen = self._device.snapshot()
            first, last = hit.rule.addresses or (address, address + count - 1)
            sight = Sight(
                table=table,
                first=max(address, first),
                end=min(address + count, last + 1),
                read=(address, address + count),
                previous=self._previous,
                frozen=hit.frozen,
                missing=self._device.missing,
                dice=hit.dice,
            )
            before = bytes(data)
            hit.rule.spoil(data, sight)
            if data != before:
                self._landed(hit)
        shown = b"".join((memoryview(image.data)[:begin], data, memoryview(image.data)[end:]))
        return TableImage(shown, image.bytes_per_address)


class _Images(Mapping[Table, TableImage]):
    def __init__(self, show: Callable[[Table], TableImage]) -> None:
        self._show = show

    def __getitem__(self, table: Table) -> TableImage:
        return self._show(table)

    def __iter__(self) -> Iterator[Table]:
        return iter(Table)

    def __len__(self) -> int:
        return len(Table)
