"""One emulated PLC behind a unit id: its memory, its scanning, its functions and its faults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar, cast

from plcsim.device import Device
from plcsim.faults.engine import ActiveFault, FaultEngine
from plcsim.faults.event import Record
from plcsim.faults.image_rules import ImageRule
from plcsim.faults.reply_rules import Delay, Refusal, ReplyRule
from plcsim.faults.rules import FaultRule
from plcsim.faults.selection import Windowed
from plcsim.faults.spoiled_memory import SpoiledMemory
from plcsim.limits import FunctionCode
from plcsim.memory import Memory
from plcsim.protocol.diagnostics import Diagnostics, read_exception_status
from plcsim.protocol.files import Files, read_fifo_queue
from plcsim.protocol.identification import read_device_identification, report_server_id
from plcsim.protocol.pdu import Request, exception_reply
from plcsim.protocol.reply import Reply
from plcsim.protocol.requests import HANDLERS, Handler, respond
from plcsim.scanner import Scanner

RuleT = TypeVar("RuleT", bound=Windowed)


class Unit:
    """Answers requests as the device would, and as the faults in force want it."""

    def __init__(
        self,
        device: Device,
        start_scan: int = 0,
        phase: float = 0.0,
        record_fault: Record | None = None,
    ) -> None:
        self.device = device
        self.scanner = Scanner(device, start_scan, phase)
        self.faults = FaultEngine(device.config.device.device_id, device.config.device.seed, record_fault)
        for rule in device.config.faults:
            self.faults.add(rule)
        self.is_away = False
        """It is restarting, and the gateway in front of it answers instead."""
        self._start_anew()

    def _start_anew(self) -> None:
        diagnostics = Diagnostics()
        self._diagnostics = diagnostics if self.device.config.server.functions.diagnostics else None
        self._handlers = _handlers(self.device, diagnostics)

    def restart(self) -> None:
        """Registers, counters, files and PLC scan number are as at the start; what was written is gone."""
        self.device.restart()
        self.scanner.restart()
        self._start_anew()

    def jump_clock(self, seconds: float) -> None:
        """Let the device's clock jump; whole PLC scans, at least one."""
        scans = max(1, round(abs(seconds) / self.device.config.device.plc_scan_s))
        self.scanner.jump(int(math.copysign(scans, seconds)))

    def respond(self, request: Request) -> bytes:
        """The reply PDU, as if no fault were in force."""
        return self._counted(respond(self.device, request, self._handlers))

    def reply(self, request: Request) -> Reply:
        """The reply as the faults in force want it."""
        hits = list(self.faults.hits(request))
        on_reply = _of(hits, ReplyRule)
        silences = [hit for hit in on_reply if hit.rule.is_silence]
        if refusals := _of(hits, Refusal):
            pdu = self._counted(exception_reply(request.function_code, refusals[0].rule.exception_code))
            self._landed(refusals[0], request)
        else:
            pdu = self._respond_to(request, [] if silences else _of(hits, ImageRule))
        reply = Reply(request.transaction_id, request.unit_id, pdu)
        if silences:
            on_reply = silences[:1] + _of(hits, Delay)
        for hit in sorted(on_reply, key=lambda hit: hit.rule.turn):
            if hit.rule.spoil(reply, hit.dice):
                self._landed(hit, request)
        return reply

    def _respond_to(self, request: Request, hits: Sequence[ActiveFault[ImageRule]]) -> bytes:
        memory: Memory = self.device
        if hits:
            memory = SpoiledMemory(
                self.device, self.scanner.previous, request, hits, lambda hit: self._landed(hit, request)
            )
        return self._counted(respond(memory, request, self._handlers))

    def _landed(self, hit: ActiveFault[Windowed], request: Request) -> None:
        self.faults.has_landed(hit, self.device.plc_scan, request)

    def _counted(self, pdu: bytes) -> bytes:
        if self._diagnostics:
            self._diagnostics.count(pdu)
        return pdu


def _handlers(device: Device, diagnostics: Diagnostics) -> dict[int, Handler]:
    server = device.config.server
    functions = server.functions
    handlers = dict(HANDLERS)
    handlers[FunctionCode.ENCAPSULATED_INTERFACE] = read_device_identification(server.identification)
    if functions.report_server_id is not None:
        handlers[FunctionCode.REPORT_SERVER_ID] = report_server_id(functions.report_server_id)
    if functions.exception_status is not None:
        handlers[FunctionCode.READ_EXCEPTION_STATUS] = read_exception_status(functions.exception_status)
    if functions.diagnostics:
        handlers[FunctionCode.DIAGNOSTICS] = diagnostics.serve_diagnostics
        handlers[FunctionCode.GET_COMM_EVENT_COUNTER] = diagnostics.serve_event_counter
    if functions.files:
        files = Files(functions.files)
        handlers[FunctionCode.READ_FILE_RECORD] = files.read
        handlers[FunctionCode.WRITE_FILE_RECORD] = files.write
    if functions.fifo:
        handlers[FunctionCode.READ_FIFO_QUEUE] = read_fifo_queue(functions.fifo)
    return handlers


def _of(hits: Sequence[ActiveFault[FaultRule]], kind: type[RuleT]) -> list[ActiveFault[RuleT]]:
    return cast("list[ActiveFault[RuleT]]", [hit for hit in hits if isinstance(hit.rule, kind)])
