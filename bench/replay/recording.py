"""A recording: scans of one device with their times, as arrays on disk that several processes share."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from logger.scan import Floats, Scan, ScanLayout, Text
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device


@dataclass(frozen=True)
class Recording:
    """What was recorded of one device."""

    source: str
    """The file or the database, for people."""
    config: DeviceConfig
    at_s: Floats
    """When each scan was read, in seconds after the first; ascending, shape (scans,)."""
    values: Floats
    """NaN where nothing was read; shape (scans, parameters) in the order of the ScanLayout."""
    quality: NDArray[np.int16]
    texts: Mapping[int, tuple[Text, ...]] = field(default_factory=dict)
    """By scan, of those that have any."""
    left_out: int = 0
    """Scans that were recorded and cannot be played: not whole, or not later than the one before."""

    @property
    def scans(self) -> int:
        return len(self.at_s)

    @property
    def parameters(self) -> int:
        return int(self.values.shape[1])

    @property
    def step_s(self) -> float:
        """The usual time between two scans; 0 for fewer than two."""
        return float(np.median(np.diff(self.at_s))) if self.scans > 1 else 0.0

    @property
    def seconds(self) -> float:
        """How long it took to happen, the last scan's own time included."""
        return float(self.at_s[-1]) + self.step_s if self.scans else 0.0

    def first(self, seconds: float) -> Recording:
        """Its beginning only."""
        kept = int(np.searchsorted(self.at_s, seconds, side="left"))
        texts = {scan: found for scan, found in self.texts.items() if scan < kept}
        return replace(
            self, at_s=self.at_s[:kept], values=self.values[:kept], quality=self.quality[:kept], texts=texts
        )

    def save(self, folder: Path) -> None:
        """Write it into an empty folder. Raises OSError."""
        np.save(folder / "at_s.npy", self.at_s)
        np.save(folder / "values.npy", self.values)
        np.save(folder / "quality.npy", self.quality)
        about = {
            "source": self.source,
            "config": self.config.to_json(),
            "left_out": self.left_out,
            "texts": {str(scan): [list(text) for text in texts] for scan, texts in self.texts.items()},
        }
        (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def load_recording(folder: Path) -> Recording:
    """Open what `Recording.save` wrote; the arrays stay on disk and come into memory as they are read."""
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    at_s, values, quality = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("at_s", "values", "quality")
    )
    return Recording(
        about["source"],
        parse_device(about["config"], "recorded device"),
        at_s,
        values,
        quality,
        {int(scan): tuple(Text(*text) for text in texts) for scan, texts in about["texts"].items()},
        about["left_out"],
    )


class RecordedScans:
    """The source of a worker's scans: the one at `position`, read now under the next number."""

    def __init__(self, recording: Recording, layout: ScanLayout) -> None:
        self._recording, self._layout = recording, layout
        self._process_number: int | None = None
        self.position = 0

    def next(self, number: int) -> Scan:
        """The scan at `position`, with this number of the stream."""
        recording, at = self._recording, self.position
        values = np.array(recording.values[at])
        self._process_number = self._layout.process_number(values, self._process_number)
        return Scan(
            number,
            values,
            np.array(recording.quality[at]),
            np.full(len(values), time.time_ns() // 1000, dtype=np.int64),
            self._process_number,
            texts=recording.texts.get(at, ()),
        )
