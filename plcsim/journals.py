"""Journals that an emulator keeps while it runs: what clients wrote and asked, and which faults landed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from plcsim.config import DeviceConfig
from plcsim.errors import PlcsimError
from plcsim.faults.event import append_event
from plcsim.journal_file import open_to_append
from plcsim.limits import ExceptionCode
from plcsim.plant import Recorders
from plcsim.protocol.requests import RequestRefused
from plcsim.request_journal import append_request
from plcsim.write_journal import append_write, open_journal
from plcsim.writes import Event, WriteRecord

T = TypeVar("T")


class Journals:
    """Opens journals and writes them; a context manager that closes them. One that cannot be written
    any more ends the emulator, because the truth could not be recomputed: see `failed`. Until then writes
    get exception 04, so that nobody takes for written what is in no journal."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._failed = asyncio.Event()
        self._problem = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stack.close()

    def recorders(self, writes: Path | None, faults: Path | None, requests: Path | None = None) -> Recorders:
        """What appends to these files. Raises InputError if a journal of writes is not a new one."""
        return Recorders(
            self._write_recorder(writes) if writes else None,
            self._recorder(faults, open_to_append, append_event) if faults else None,
            self._recorder(requests, open_to_append, append_request) if requests else None,
        )

    async def failed(self) -> None:
        """Wait for ever, or raise PlcsimError when a journal cannot be written."""
        await self._failed.wait()
        raise PlcsimError(self._problem)

    def _write_recorder(self, path: Path) -> Callable[[Event], None]:
        record = self._recorder(path, open_journal, append_write)

        def record_or_refuse(event: Event) -> None:
            record(event)
            if self._failed.is_set() and isinstance(event, WriteRecord):
                raise RequestRefused(ExceptionCode.DEVICE_FAILURE)

        return record_or_refuse

    def _recorder(
        self, path: Path, opened: Callable[[Path], Any], append: Callable[[Any, T], None]
    ) -> Callable[[T], None]:
        file = self._stack.enter_context(opened(path))

        def record(event: T) -> None:
            if self._failed.is_set():
                return  # behind half a line it could not be read
            try:
                append(file, event)
            except OSError as exc:
                self._problem = f"{path}: cannot be written: {exc.strerror}; stopped"
                self._failed.set()

        return record


class FleetJournals(Journals):
    """Journals in a folder: DEVICE.writes.jsonl for each device and faults.jsonl for all.

    A device that begins again after its process died has a new file, DEVICE.writes-1.jsonl: together
    they would tell a wrong truth. Without a folder there are none. All requests are in one file.
    """

    def __init__(self, folder: Path | None, life: int, requests: Path | None = None) -> None:
        super().__init__()
        self._folder = folder
        self._suffix = f"-{life}" if life else ""
        of_all = self.recorders(None, folder / "faults.jsonl" if folder else None, requests)
        self._fault_recorder, self._request_recorder = of_all.fault, of_all.request

    def of_device(self, config: DeviceConfig) -> Recorders:
        """What records the writes, faults and requests of a device."""
        if self._folder is None:
            return Recorders(request=self._request_recorder)
        name = quote(config.device.device_id, safe=" :")
        writes = self._folder / f"{name}.writes{self._suffix}.jsonl"
        return Recorders(self.recorders(writes, None).write, self._fault_recorder, self._request_recorder)
