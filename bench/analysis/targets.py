"""Targets file: YAML -> what synchronization may cost and what must hold; see configs/bench/targets.yaml."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from bench.analysis.verdict import Targets
from plcsim.yaml_file import Complaint, load_yaml

_DEFAULT = Targets()
_SHARES = {
    "throughput_loss": 1.0,
    "latency_increase": 10.0,
    "memory_increase": 10.0,
    "cpu_increase": 10.0,
    "success": 1.0,
    "long_reader_left": 1.0,
}
"""The most that each share can be: nothing loses more than everything."""


class TargetsSpec(BaseModel):
    """What a file may say; what it leaves out keeps its default."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    throughput_loss: float = _DEFAULT.throughput_loss
    latency_increase: float = _DEFAULT.latency_increase
    memory_increase: float = _DEFAULT.memory_increase
    cpu_increase: float | None = _DEFAULT.cpu_increase
    success: float = _DEFAULT.success
    long_reader_left: float = _DEFAULT.long_reader_left
    recovery_s: float = Field(default=_DEFAULT.recovery_s, gt=0, le=86_400)
    latency_floor_ms: float = Field(default=_DEFAULT.latency_floor_ms, ge=0, le=60_000)
    memory_floor_mb: float = Field(default=_DEFAULT.memory_floor_mb, ge=0, le=1_000_000)


def load_targets(path: Path | str) -> Targets:
    """Load a targets file; raises ConfigError with file, line, key, value and what would be right."""
    return Targets(**load_yaml(path, TargetsSpec, _check).model_dump())


def _check(spec: TargetsSpec) -> None:
    for key, most in _SHARES.items():
        share = getattr(spec, key)
        if share is None or 0 < share < most:
            continue
        hint = f"; {share:g} % is written {share / 100:g}" if 1 < share <= 100 else ""
        raise Complaint((key,), f"{share:g}: must be a share, more than 0 and less than {most:g}{hint}")
