"""Reads a device once and shows the raw words beside what they mean in each byte order.

For the person who commissions: a value that makes sense in one order only says which one the device
speaks, and a refusal says which address its manual has wrong.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import NamedTuple

from logger.errors import PlcError
from logger.reading.plc import PlcConnection
from logger.reading.read_plan import ReadBlock, Refused, plan_of
from logger.reading.refusals import is_about_addresses
from logger.scan import Quality
from plcsim.codec import Bytes, Codec
from plcsim.config import DeviceConfig
from plcsim.parameters import ByteOrder, Parameter


class Probed(NamedTuple):
    """One parameter as the device shows it now."""

    parameter: Parameter
    written: str
    """Its table and address as the device file writes them."""
    words: str
    """Registers in hexadecimal, or coils as 0 and 1; empty if they could not be read."""
    value: float | None
    """Engineering value; None: no number, or not read."""
    text: str
    """The value in words: a number, a string, or "no value"."""
    quality: Quality | None
    """None if it could not be read."""
    problem: str
    """Why it could not be read."""
    in_order: dict[ByteOrder, str]
    """What the words mean in each byte order; empty for coils and what could not be read."""


async def probe(plc: PlcConnection, config: DeviceConfig, poll: str | None = None) -> list[Probed]:
    """Read every parameter that is logged, or those of one poll group, once; in the order of the plan.

    What is refused in one request with others is asked for alone. Raises PlcError only if nothing at all
    could be read.
    """
    register_map = config.register_map
    wanted = register_map.logged if poll is None else register_map.logged_in(poll)
    rows: list[Probed] = []
    first: PlcError | None = None
    for block in plan_of(config, wanted, Refused()):
        try:
            rows += _shown(config, block, await plc.read(block))
        except PlcError as exc:
            first = first or exc
            if is_about_addresses(exc) and len(block.parameters) > 1:
                for parameter in block.parameters:
                    rows.append(await _alone(plc, config, parameter))
            else:
                rows += [_not_read(config, p, exc) for p in block.parameters]
    plc.scan_done()
    if first is not None and all(row.problem for row in rows):
        raise first
    return rows


async def _alone(plc: PlcConnection, config: DeviceConfig, parameter: Parameter) -> Probed:
    block = ReadBlock(parameter.table, parameter.address, parameter.width, (parameter,))
    try:
        return _shown(config, block, await plc.read(block))[0]
    except PlcError as exc:
        return _not_read(config, parameter, exc)


def _shown(config: DeviceConfig, block: ReadBlock, data: Bytes) -> list[Probed]:
    size = 1 if block.table.is_bits else 2
    rows: list[Probed] = []
    for p in block.parameters:
        mine = data[size * (p.address - block.address) : size * (p.end - block.address)]
        value, text = _decoded(p, mine)
        orders = () if p.table.is_bits else ByteOrder
        rows.append(
            Probed(
                p,
                _written(config, p),
                _words(p, mine),
                value,
                text,
                _quality(p, value),
                "",
                {order: _decoded(replace(p, byte_order=order), mine)[1] for order in orders},
            )
        )
    return rows


def _decoded(parameter: Parameter, data: Bytes) -> tuple[float | None, str]:
    codec = Codec([parameter], parameter.table, parameter.address)
    values = codec.decode(data)
    value = float(values[0]) if isfinite(values[0]) else None
    texts = codec.texts(data, values)
    if texts:
        return value, texts[0][1]
    return value, "no value" if value is None else f"{value:.10g}"


def _quality(parameter: Parameter, value: float | None) -> Quality:
    if value is None:
        return Quality.BAD_SENSOR_FAILURE if parameter.data_type.bits else Quality.GOOD  # a string has none
    low, high = parameter.limits or (value, value)
    return Quality.GOOD if low <= value <= high else Quality.UNCERTAIN_LIMITS_EXCEEDED


def _words(parameter: Parameter, data: Bytes) -> str:
    if parameter.table.is_bits:
        return " ".join(str(bit) for bit in data.tolist())
    return data.tobytes().hex(" ", 2).upper()


def _written(config: DeviceConfig, parameter: Parameter) -> str:
    return f"{parameter.table.value} {config.notation.written(parameter.address, parameter.table)}"


def _not_read(config: DeviceConfig, parameter: Parameter, exc: PlcError) -> Probed:
    return Probed(parameter, _written(config, parameter), "", None, "", None, str(exc), {})
