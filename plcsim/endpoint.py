"""Where devices are served: an address and those behind it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plcsim.config import DeviceConfig


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One listening port and the devices behind it, told apart by their unit ids."""

    hosts: tuple[str, ...]
    """Addresses, all at one port."""
    port: int
    """0 takes a free one."""
    devices: tuple[DeviceConfig, ...]
    folder: Path = Path()
    """What paths in the device file are relative to."""
