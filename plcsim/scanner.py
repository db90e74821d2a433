"""Serves the PLC scans of one device in time: each at its due time on the monotonic clock."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from plcsim.device import Device

_KEPT_LATENESS = 4096


class Scanner:
    """Replaces the register image of a device once per PLC scan, from `start` to `stop`.

    PLC scan n + 1 is due one scan time after PLC scan n; a scan whose time has passed before it could
    be served is skipped and counted. `phase` in [0, 1) shifts all due times by that part of a scan
    time, so that the devices of a fleet do not all scan at one instant.
    """

    def __init__(self, device: Device, start_scan: int = 0, phase: float = 0.0) -> None:
        self._device = device
        self._interval_s = device.config.device.plc_scan_s
        self._phase = phase
        self._number_at_start = start_scan
        self._started_at = 0.0
        self._done = 0
        self.task: asyncio.Task[None] | None = None
        """Ends only if the scanning broke."""
        self.late_scans = 0
        """PLC scans that were skipped because their time had passed."""
        self.lateness_s: deque[float] = deque(maxlen=_KEPT_LATENESS)
        """How long after their due time the latest PLC scans were served."""
        self.previous = device.snapshot()
        """The image of the PLC scan before this one."""

    def start(self) -> None:
        """Serve the first PLC scan now and the others in time. Needs a running event loop."""
        self._device.scan(self._number_at_start)
        self._started_at = time.monotonic() + self._phase * self._interval_s
        self.task = asyncio.get_running_loop().create_task(self._scan_for_ever())

    async def stop(self) -> None:
        """Serve no more PLC scans."""
        if self.task:
            self.task.cancel()
            await asyncio.wait({self.task})

    async def failed(self) -> None:
        """Wait for ever, or raise what broke the scanning."""
        if self.task:
            await asyncio.wait({self.task})
            if not self.task.cancelled():
                self.task.result()

    def jump(self, plc_scans: int) -> None:
        """Let the PLC scan number go on from so many further on, or back, but never below 0."""
        plc_scan = max(0, self._device.plc_scan + plc_scans)
        self._number_at_start = plc_scan - self._done
        self._show(plc_scan)

    def restart(self) -> None:
        """Let the PLC scan number go on from 0."""
        self._number_at_start = -self._done
        self._show(0)

    def _show(self, plc_scan: int) -> None:
        self.previous = self._device.snapshot()
        self._device.scan(plc_scan)

    async def _scan_for_ever(self) -> None:
        # the monotonic clock, because the loop's own time has steps of 1 ms with uvloop
        while True:
            next_due = self._started_at + (self._done + 1) * self._interval_s
            await asyncio.sleep(next_due - time.monotonic())
            now = time.monotonic()
            due = int((now - self._started_at) / self._interval_s)
            if due <= self._done:
                continue
            self.late_scans += due - self._done - 1
            self.lateness_s.append(now - (self._started_at + due * self._interval_s))
            self._done = due
            self._show(self._number_at_start + due)
