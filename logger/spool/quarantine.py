"""Scans that the database refuses for good: one file each, until somebody puts them back or away.

Several processes may share the folder: a file appears whole or not at all, and its name is unique.
"""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

from logger.errors import SpoolFailed
from logger.scan import Scan, StreamKey
from logger.spool.disk import Disk, OsDisk, replace_file
from logger.spool.records import Kind, Record, framed, item_bytes, item_of, records_in
from plcsim.errors import InputError

log = logging.getLogger(__name__)

_SUFFIX = ".scan"
_ALARM = 0.8


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What is known of a scan in quarantine."""

    id: str
    """Names it in commands: device, stream and number in the database."""
    key: StreamKey
    number: int
    """As the logger counts."""
    number_in_database: int
    """Of its gap record."""
    error: str
    """What the database said, one line."""
    sqlstate: str
    quarantined_at_us: int
    """Microseconds since 1970, UTC."""
    bytes: int
    """Of its file."""


_Entries = list[Quarantined]
_Names = list[str]
_Records = list[Record]  # in the class `list` is the method


class Quarantine:
    """The quarantine of a spool, in `folder`/quarantine; bounded, with a warning at 80 %."""

    def __init__(
        self, folder: Path, disk: Disk | None = None, max_count: int = 10_000, max_bytes: int = 256 << 20
    ) -> None:
        self.folder = folder / "quarantine"
        self._disk = disk or OsDisk()
        self._max_count, self._max_bytes = max_count, max_bytes
        self._is_alarmed = False

    def add(self, key: StreamKey, scan: Scan, number_in_database: int, error: str, sqlstate: str) -> str:
        """Keep the scan; durable when it returns its id. The same scan again replaces itself.

        Raises SpoolFailed if the quarantine is full, OSError if the disk does not take it.
        """
        self._disk.make_folder(self.folder)
        self._disk.sync_folder(self.folder.parent)
        payload = item_bytes(key, scan)
        entry = Quarantined(
            _id_of(key, number_in_database), key, scan.number, number_in_database,
            " ".join(error.split()), sqlstate, time.time_ns() // 1000, len(payload),
        )  # fmt: skip
        self._check_room(entry)
        about = json.dumps(asdict(entry)).encode()
        data = framed(Kind.NOTE, 0, about, 0) + framed(Kind.SCAN, 1, payload, 0)
        replace_file(self._disk, self._path(entry.id), data)
        return entry.id

    def list(self) -> _Entries:
        """All that can be read, by device, stream and number; what cannot is named in the log."""
        found = []
        for name in self._names():
            try:
                found.append(self.load(name.removesuffix(_SUFFIX))[0])
            except InputError as exc:
                log.warning("%s", exc)
        return sorted(found, key=lambda entry: (entry.key, entry.number_in_database))

    def load(self, id: str) -> tuple[Quarantined, Scan]:
        """A scan and what is known of it. Raises InputError if it is not there, or damaged."""
        records = self._records(id)
        if [record.kind for record in records] != [Kind.NOTE, Kind.SCAN]:
            raise InputError(f"{self._path(id)}: is damaged: its scan cannot be read back")
        about = json.loads(bytes(records[0].payload))
        about["key"] = StreamKey(*about["key"])
        scan = item_of(records[1], has_clock=False)[1]
        assert isinstance(scan, Scan)
        return Quarantined(**about), scan

    def remove(self, id: str) -> None:
        """Let go of a scan. Raises InputError if it is not there."""
        try:
            self._disk.remove(self._path(id))
        except FileNotFoundError:
            raise self._unknown(id) from None
        self._disk.sync_folder(self.folder)

    def size(self) -> tuple[int, int]:
        """How many scans there are, and their bytes."""
        count = size = 0
        for name in self._names():
            try:
                size += self._disk.size(self.folder / name)
            except FileNotFoundError:  # removed meanwhile
                continue
            count += 1
        return count, size

    def share(self) -> float:
        """How full it is, from 0 to 1. Raises OSError."""
        count, size = self.size()
        return max(count / self._max_count, size / self._max_bytes)

    def _check_room(self, entry: Quarantined) -> None:
        count, size = self.size()
        if self._path(entry.id).name in self._names():
            return
        share = max((count + 1) / self._max_count, (size + entry.bytes) / self._max_bytes)
        if share > 1:
            raise SpoolFailed(
                f"{self.folder}: the quarantine is full ({count} scans, {size} bytes): insert or remove some "
                "with plclogger quarantine"
            )
        if share >= _ALARM and not self._is_alarmed:
            log.warning("%s: the quarantine is %.0f %% full (%d scans)", self.folder, 100 * share, count + 1)
        self._is_alarmed = share >= _ALARM

    def _names(self) -> _Names:
        try:
            return [name for name in self._disk.names(self.folder) if name.endswith(_SUFFIX)]
        except FileNotFoundError:
            return []

    def _records(self, id: str) -> _Records:
        path = self._path(id)
        try:
            data = self._disk.read(path, 0, self._disk.size(path))
        except FileNotFoundError:
            raise self._unknown(id) from None
        return [*records_in(data, 0)]

    def _path(self, id: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", id):
            raise self._unknown(id)
        return self.folder / (id + _SUFFIX)

    def _unknown(self, id: str) -> InputError:
        return InputError(f"{id!r} is not in quarantine: plclogger quarantine list shows what is")


def _id_of(key: StreamKey, number_in_database: int) -> str:
    """A name for files: device names may hold more than that, and must not meet."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", key.device_id)
    if name != key.device_id:
        name += f"-{crc32(key.device_id.encode()):08x}"
    return f"{name}-{key.stream_id}-{number_in_database}"
