"""What the machine is, as the kernel tells it: limits, disk, clock, governor, stolen time (Linux)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def host_facts(folder: Path) -> dict[str, Any]:
    """Facts about this machine and the disk of a folder; a fact that the system does not tell is None."""
    disk = mount_of(folder)
    return {
        "cpu_limit": _cpu_limit(),
        "memory_limit_bytes": _memory_limit(),
        "cores_for_us": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "clock": _text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "is_virtual": _is_virtual(),
        "numa_nodes": len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or None,
        "swap_used_bytes": _swap_used(),
        "file_system": disk[1] if disk else None,
        "disk": disk[0] if disk else None,
        "data_folder_free_bytes": _free(folder),
    }


def mount_of(folder: Path) -> tuple[str, str] | None:
    """(device, type of the file system) of the mount that a folder, or what is there of it, lies in."""
    mounts = _text("/proc/self/mounts")
    if mounts is None:
        return None
    where = existing(folder).resolve()
    best: tuple[int, str, str] | None = None
    for line in mounts.splitlines():
        device, at, kind = line.split(" ")[:3]
        point = Path(at.replace("\\040", " "))
        if (where == point or point in where.parents) and (best is None or len(str(point)) >= best[0]):
            best = (len(str(point)), device, kind)
    return best[1:] if best else None


def existing(folder: Path) -> Path:
    """The folder, or the nearest parent that there is."""
    return next((each for each in (folder, *folder.parents) if each.is_dir()), Path("/"))


def cpu_ticks() -> dict[str, int]:
    """Ticks since start of all cores: all of them, those idle, and those that the host took for others."""
    text = _text("/proc/stat")
    if text is None:
        return {}
    figures = [int(figure) for figure in text.splitlines()[0].split()[1:]]
    return {"all": sum(figures[:8]), "idle": figures[3] + figures[4], "stolen": figures[7]}


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _cpu_limit() -> float | None:
    """Cores that a control group leaves us; None where it sets no limit."""
    limit = _text("/sys/fs/cgroup/cpu.max")
    if limit is None or limit.startswith("max"):
        return None
    quota, period = limit.split()
    return int(quota) / int(period)


def _memory_limit() -> int | None:
    limit = _text("/sys/fs/cgroup/memory.max")
    return int(limit) if limit and limit.isdigit() else None


def _is_virtual() -> bool | None:
    text = _text("/proc/cpuinfo")
    return None if text is None else " hypervisor" in text


def _swap_used() -> int | None:
    text = _text("/proc/meminfo")
    if text is None:
        return None
    kilobytes = {
        line.partition(":")[0]: int(line.split()[1])
        for line in text.splitlines()
        if line.startswith(("SwapTotal", "SwapFree"))
    }
    return (kilobytes.get("SwapTotal", 0) - kilobytes.get("SwapFree", 0)) * 1024


def _free(folder: Path) -> int | None:
    try:
        found = os.statvfs(existing(folder))
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
