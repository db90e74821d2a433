"""Which worker logs which device, and where each worker's spool is.

One process has its spool in the folder itself; of N workers each has a folder `worker-K` in it. Devices
behind one address go to one worker, because they share a connection; addresses are dealt in turn, in the
order of the files. If the deal changes (more workers, other devices), what still waits moves with its
streams before anything is logged: copied beside, made valid by one rename, then put in place, so that an
interruption at any point is finished, or begun again, by the next start.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

from logger.settings import Settings
from logger.spool import Spool, SpoolLimits
from logger.spool_folder import SPOOL, failure_of, is_among
from plcsim.config import DeviceConfig
from plcsim.errors import InputError

_DEAL = "deal.json"
_BUILT = "deal.new"
_VALID = "deal.ready"
_CLEARED = "cleared"
_DONE = "deal.done"
_MOST_AT_ONCE = 1000
_FLUSH_S = 60.0
"""For a disk to take what was copied."""


def shares(devices: Sequence[DeviceConfig], workers: int) -> list[tuple[DeviceConfig, ...]]:
    """The devices of each worker; fewer workers if there are fewer addresses."""
    addresses: dict[tuple[str, int], list[DeviceConfig]] = {}
    for config in devices:
        addresses.setdefault((config.modbus.host, config.modbus.port), []).append(config)
    each = list(addresses.values())
    count = min(workers, len(each))
    return [tuple(config for group in each[k::count] for config in group) for k in range(count)]


def dealt(settings: Settings, workers: int) -> list[Settings]:
    """Settings of each worker, its spool with everything that waits of its devices.

    The folder must be `taken`. Raises InputError if a spool cannot be used, PlcsimError while its disk
    is full.
    """
    try:
        return _dealt(settings, workers)
    except OSError as exc:
        raise failure_of(settings.spool, exc) from None


def _dealt(settings: Settings, workers: int) -> list[Settings]:
    parts = shares(settings.devices, workers)
    folders = ["."] if len(parts) == 1 else [f"worker-{k}" for k in range(1, len(parts) + 1)]
    places = {
        config.device.device_id: folder
        for part, folder in zip(parts, folders, strict=True)
        for config in part
    }
    base = settings.spool
    _finish(base)
    before = _read(base)
    gone = {name: place if place in folders else folders[0] for name, place in before.places.items()}
    deal = _Deal(before.writer, {**gone, **places})
    if any(deal.places[name] != place for name, place in before.places.items()):
        _move(base, settings, before, deal, folders)
    _write(base, deal)
    if len(parts) == 1:
        return [replace(settings, writer=deal.writer)]
    return [
        replace(settings, devices=part, spool=base / folder, worker=k, writer=deal.writer)
        for k, (part, folder) in enumerate(zip(parts, folders, strict=True), 1)
    ]


class _Deal:
    """What the deal before was: the folder of each device, and the identity that all spools share."""

    def __init__(self, writer: UUID, places: dict[str, str]) -> None:
        self.writer = writer
        self.places = places


def _read(base: Path) -> _Deal:
    try:
        data = json.loads((base / _DEAL).read_text(encoding="utf-8"))
        return _Deal(UUID(data["writer"]), dict(data["places"]))
    except FileNotFoundError:
        return _Deal(uuid4(), {})
    except (ValueError, KeyError, TypeError) as exc:
        raise InputError(
            f"{base / _DEAL}: does not say which worker has which device ({exc}): put back a copy of it"
        ) from None


def _write(base: Path, deal: _Deal) -> None:
    partial = base / f"{_DEAL}.new"
    content = json.dumps({"writer": str(deal.writer), "places": deal.places})
    if (base / _DEAL).exists() and (base / _DEAL).read_text(encoding="utf-8") == content:
        return
    with partial.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(base / _DEAL)
    _sync(base)


def _move(base: Path, settings: Settings, before: _Deal, deal: _Deal, folders: Sequence[str]) -> None:
    """Build the spools of the new deal beside the old ones, then put them in place."""
    built = base / _BUILT
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir()
    (built / "old.json").write_text(json.dumps(sorted(set(before.places.values()))))  # fails on a full disk
    limits = SpoolLimits(max_bytes=1 << 62, max_age_s=float("inf"))  # what is there stays there
    target = settings.target
    new = {name: Spool(built / name, limits, target=target, writer=before.writer) for name in folders}
    for spool in new.values():
        spool.open()
    killed: set[Spool] = set()
    for folder in sorted(set(before.places.values())):
        old = Spool(base / folder, limits, target=target, writer=before.writer)
        old.open()
        into = _copy(old, new, deal.places)
        if not old.clean:  # the scans that were in hand are a gap, whoever goes on with them
            killed |= into
        old.close(clean=old.clean)  # if we are killed now, it must still say so
    for spool in new.values():
        spool.flush(_FLUSH_S)
        spool.close(clean=spool not in killed)
    _write(built, deal)
    for path in (*(path for path in built.iterdir() if path.is_dir()), built):
        _sync(path)
    built.rename(base / _VALID)
    _sync(base)
    _finish(base)


def _copy(old: Spool, new: dict[str, Spool], places: dict[str, str]) -> set[Spool]:
    """Every stream with its numbers and its anchor, and every item that is not released; into which."""

    def place(device_id: str) -> Spool:
        return new[places.get(device_id, next(iter(new)))]

    streams = old.streams()
    for key, state in streams.items():
        place(key.device_id).adopt(key, state)
    while items := old.take(_MOST_AT_ONCE, 0.0):
        for key, item, _ in items:
            place(key.device_id).put(key, item)
        for spool in new.values():
            spool.flush(_FLUSH_S)
    return {place(key.device_id) for key in streams}


def _finish(base: Path) -> None:
    """Put the spools in place that became valid; the old ones go first."""
    valid, done = base / _VALID, base / _DONE
    shutil.rmtree(done, ignore_errors=True)
    if not valid.exists():
        return
    if not (valid / _CLEARED).exists():
        for folder in json.loads((valid / "old.json").read_text()):
            _clear(base / folder)
        (valid / _CLEARED).touch()
        _sync(valid)
    for path in sorted(valid.iterdir()):
        if path.name.startswith("worker-"):
            _into(path, base / path.name)
        elif path.name not in ("old.json", _CLEARED, _DEAL):
            path.replace(base / path.name)
    if (valid / _DEAL).exists():
        (valid / _DEAL).replace(base / _DEAL)
        _sync(base)
    valid.rename(done)  # half removed, it would look as if the old spools were still in place
    _sync(base)
    shutil.rmtree(done, ignore_errors=True)


def _clear(folder: Path) -> None:
    """Remove a spool, and nothing else that is in its folder."""
    if not folder.exists():
        return
    for path in folder.iterdir():
        if is_among(path.name, SPOOL):
            path.unlink()
    _sync(folder)


def _into(path: Path, place: Path) -> None:
    """Move the files of a spool into its folder, which may have been begun already."""
    place.mkdir(exist_ok=True)
    for file in sorted(path.iterdir()):
        file.replace(place / file.name)
    _sync(place)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
