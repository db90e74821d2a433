"""Loads a device file: YAML -> DeviceConfig, checked as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plcsim.checks.device import check_device
from plcsim.checks.signals import check_samples
from plcsim.config import DeviceConfig
from plcsim.recordings import replays, with_samples
from plcsim.yaml_file import load_yaml, parse

__all__ = ["check_device", "load_device", "parse_device"]


def load_device(path: Path | str) -> DeviceConfig:
    """Load a device file. Raises ConfigError: one line that names file, line, key and value.

    Recordings that signals replay are read, too, and are part of the configuration from then on.
    """
    config = load_yaml(path, DeviceConfig, check_device)
    if not any(replays(config)):
        return config
    return parse_device(with_samples(config, Path(path).parent), str(path))


def parse_device(data: Any, source: str = "configuration") -> DeviceConfig:
    """The same from what `DeviceConfig.to_json` gave."""
    return parse(data, DeviceConfig, _check_stored, source)


def _check_stored(config: DeviceConfig) -> None:
    check_device(config)
    check_samples(config)
