"""Keeps the workers of a fleet running, asks them how they are, and passes on what is asked of them."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plcsim.control.request import checked, joined, matching, parse_request
from plcsim.control.socket import ControlServer
from plcsim.control.status import (
    Meter,
    PlantStatus,
    ProcessStatus,
    Status,
    ended_with,
    with_faults_of,
)
from plcsim.endpoint import Endpoint
from plcsim.errors import InputError, PlcsimError
from plcsim.fleet.link import Link
from plcsim.fleet.messages import Assignment
from plcsim.fleet.process import WorkerProcess, start_worker
from plcsim.fleet.view import View
from plcsim.fleet_file import Fleet
from plcsim.plant import places_of
from plcsim.runner import first_of

_STATUS_S = 1.0
_SILENT_LOOKS = 10
"""A worker that has answered nothing for so many looks, 1 s each, hangs. Looks and not time, because time
goes on while this process is suspended."""
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_STEADY_S = 10.0
"""A worker that lived so long is restarted after the first pause again."""

Say = Callable[[str], None]


@dataclass(slots=True)
class _Post:
    """What one worker serves, whichever process that is at the moment."""

    number: int
    endpoints: tuple[Endpoint, ...]
    link: Link
    listening: bool = False
    restarts: int = 0
    latest: PlantStatus = field(default_factory=PlantStatus)

    @property
    def device_ids(self) -> list[str]:
        return [config.device.device_id for endpoint in self.endpoints for config in endpoint.devices]


class Supervisor:
    """Runs a fleet; `run` returns when it was told to stop.

    Workers that die, or hang and are killed, are started again, on the same ports, after a pause that
    grows if they die again soon; `say` gets one line each time.
    """

    def __init__(
        self,
        fleet: Fleet,
        workers: Sequence[WorkerProcess],
        view: View,
        say: Say,
        journal_folder: Path | None = None,
        control: Path | None = None,
        request_journal: Path | None = None,
    ) -> None:
        self._name = fleet.name
        self._view = view
        self._say = say
        self._journal_folder = journal_folder
        self._request_journal = request_journal
        self._control = control
        self._posts = [
            _Post(number, share, Link(worker))
            for number, (share, worker) in enumerate(
                zip(_shared_out(fleet.endpoints, len(workers)), workers, strict=True), 1
            )
        ]
        self._order = {name: i for i, name in enumerate(fleet.device_ids)}
        self._meter = Meter("fleet", fleet.name, control)
        self._ended = PlantStatus()
        self._status: Status | None = None

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM. Raises ListenError if an address cannot be bound."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        try:
            async with AsyncExitStack() as stack:
                if self._control:
                    await stack.enter_async_context(ControlServer(self._control, self.handle))
                await first_of(stop.wait(), self._assign_all())
                if not stop.is_set():
                    self._view.listening(self._banner())
                    await first_of(self._look_each_second(stop), *map(self._keep, self._posts))
        finally:
            await asyncio.gather(*(post.link.end() for post in self._posts))
            self._view.close(self._status)

    async def _assign_all(self) -> None:
        await asyncio.gather(*map(self._assign, self._posts))

    def _banner(self) -> str:
        devices = self._devices()
        first, last = devices[0], devices[-1]
        to = "" if first is last else f" to {_where(last)}"
        return (
            f"{self._name}: {len(devices)} devices at {_where(first)}{to} "
            f"in {len(self._posts)} process{'' if len(self._posts) == 1 else 'es'}; Ctrl-C stops"
        )

    async def _assign(self, post: _Post) -> None:
        assignment = Assignment(post.endpoints, self._journal_folder, self._request_journal, post.restarts)
        ports = await post.link.assign(assignment)
        # a worker that is started again must come back where its clients look for it
        post.endpoints = tuple(
            replace(endpoint, port=port) for endpoint, port in zip(post.endpoints, ports, strict=True)
        )
        post.listening = True

    async def _keep(self, post: _Post) -> None:
        """Start the worker of a post again whenever it ends."""
        pause_s = _FIRST_PAUSE_S
        while True:
            began_at = time.monotonic()
            await post.link.take_replies()
            post.listening = False
            how = await post.link.end()
            self._ended = ended_with(self._ended, post.latest)
            post.latest = PlantStatus()
            self._say(
                f"worker {post.number} (process {post.link.pid}) {how}: "
                f"its {len(post.device_ids)} devices start again"
            )
            if time.monotonic() - began_at > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            while not post.listening:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                post.restarts += 1
                post.link = Link(start_worker())
                try:
                    await self._assign(post)
                except PlcsimError as exc:
                    await post.link.end()
                    self._say(f"worker {post.number}: {exc}; it tries again in {pause_s:g} s")

    async def _look_each_second(self, stop: asyncio.Event) -> None:
        """Show the status until it is time to stop, and once more then."""
        started_at = time.monotonic()
        for second in itertools.count(1):
            self._view.show(await self._look())
            if stop.is_set():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), started_at + second * _STATUS_S - time.monotonic())

    async def _look(self) -> Status:
        await asyncio.gather(*map(self._look_at, self._posts))
        processes = [
            ProcessStatus(p.number, p.link.pid, p.listening, p.restarts, p.latest) for p in self._posts
        ]
        self._status = self._meter.look(processes, self._ended)
        return self._status

    async def _look_at(self, post: _Post) -> None:
        if not post.listening:
            return
        link = post.link
        try:
            async with asyncio.timeout(_STATUS_S):
                post.latest = PlantStatus(**await link.ask({"op": "status"}))
        except PlcsimError:
            return  # what it told last stays
        except TimeoutError:
            link.silent_looks += 1
        if link.silent_looks >= _SILENT_LOOKS:
            link.kill(f"gave no status for {_SILENT_LOOKS * _STATUS_S:g} s")

    async def handle(self, message: dict[str, Any]) -> dict[str, Any]:
        """Answer a request of the control socket."""
        request = parse_request(message)
        if request.op == "status":
            if self._status is None:
                raise PlcsimError("the fleet is still starting")
            return {"status": self._status.to_json()}
        if request.op == "devices":
            return {"devices": self._devices()}
        asked = set(matching(request.device, list(self._order)))
        if request.do == "add" and request.rule and (name := request.rule.get("name")):
            listed = await self._ask({"op": "fault", "do": "list"}, asked)  # all devices get it, or none
            for fault in listed["faults"]:
                if fault["name"] == name:
                    raise InputError(f"fault {name!r}: {fault['device']} has one of this name already")
        reply = checked(request, await self._ask(message, asked))
        if request.do != "list":
            await self._look_at_faults_of(asked)
        return reply

    async def _look_at_faults_of(self, devices: set[str]) -> None:
        """Have the status tell at once what has become of the faults of these devices."""
        changed = [post for post in self._posts if devices.intersection(post.device_ids)]
        await asyncio.gather(*map(self._look_at, changed))
        if self._status:
            self._status = with_faults_of(self._status, [*(p.latest for p in self._posts), self._ended])

    async def _ask(self, message: dict[str, Any], devices: set[str]) -> dict[str, Any]:
        """What the workers of these devices answer, as one answer."""
        concerned = [(post, ids) for post in self._posts if (ids := devices.intersection(post.device_ids))]
        asking = [post.link.ask(message, tuple(sorted(ids))) for post, ids in concerned]
        try:
            return joined(await asyncio.gather(*asking))
        except TimeoutError:
            raise PlcsimError("a worker does not answer") from None

    def _devices(self) -> list[dict[str, Any]]:
        places = [
            place
            for post in self._posts
            for place in places_of(post.endpoints, [endpoint.port for endpoint in post.endpoints])
        ]
        return sorted(places, key=lambda place: self._order[place["device_id"]])


def _where(place: dict[str, Any]) -> str:
    host, port = place["host"], place["port"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _shared_out(endpoints: Sequence[Endpoint], workers: int) -> list[tuple[Endpoint, ...]]:
    """Endpoints in turn to the workers, so that each has its part of every template."""
    return [tuple(endpoints[first::workers]) for first in range(workers)]
