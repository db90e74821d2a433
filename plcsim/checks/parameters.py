"""What a parameter of a device file may say, given its data type, its table and its signal."""

from __future__ import annotations

from plcsim.config import GroupSpec, ParameterSpec
from plcsim.parameters import DataType
from plcsim.signals import Constant, Missing, Text
from plcsim.yaml_file import Complaint

Place = tuple[str | int, ...]
"""Where something stands in the document."""

_IN_COILS = (DataType.BOOL, DataType.UINT16, DataType.UINT32)
_FLOATS = (DataType.FLOAT32, DataType.FLOAT64)
_ONLY_OF_NUMBERS = ("scale", "offset", "limits", "setpoint", "null_value")


def check_parameter(place: Place, group: GroupSpec, spec: ParameterSpec) -> None:
    """Raise Complaint for the first thing in which a parameter contradicts itself."""
    _check_type(place, group, spec)
    if spec.type is DataType.STRING:
        _check_string(place, spec)
    _check_null_value(place, group, spec)
    _check_access(place, group, spec)
    _check_signal(place, spec)
    if spec.scale == 0.0:
        raise Complaint((*place, "scale"), "0 would make every value the same; use 1 for none")
    if spec.limits and spec.limits[0] > spec.limits[1]:
        raise Complaint((*place, "limits"), f"{spec.limits} must be [lowest, highest]")


def _check_type(place: Place, group: GroupSpec, spec: ParameterSpec) -> None:
    table, is_bool = group.table, spec.type is DataType.BOOL
    if table.is_bits and spec.type not in _IN_COILS:
        raise Complaint(
            (*place, "type"),
            f"{spec.type.value!r} cannot lie in a {table.value}; use bool, or "
            "uint16 or uint32 over 16 or 32 of them",
        )
    if is_bool and not table.is_bits and spec.bit is None:
        raise Complaint(
            (*place, "type"),
            f"'bool' lies in a coil or discrete_input, or in one bit of a register; in {table.value}s say "
            "which with bit: 0 to 15 (0 is the least significant)",
        )
    if spec.bit is not None and (table.is_bits or not is_bool):
        raise Complaint(
            (*place, "bit"),
            f"{spec.bit}: only a 'bool' in a register has one; this is {_what(group, spec)}",
        )
    if spec.length is not None and spec.type is not DataType.STRING:
        raise Complaint(
            (*place, "length"), f"{spec.length}: only a 'string' has one; this is {_what(group, spec)}"
        )


def _check_string(place: Place, spec: ParameterSpec) -> None:
    if spec.length is None:
        raise Complaint((*place, "type"), "'string' needs a length: the most bytes that its text may have")
    for key in _ONLY_OF_NUMBERS:
        if key in spec.model_fields_set and getattr(spec, key) is not None:
            raise Complaint((*place, key), "a string is no number and cannot have it")


def _check_null_value(place: Place, group: GroupSpec, spec: ParameterSpec) -> None:
    if spec.null_value is None:
        return
    here = (*place, "null_value")
    if group.table.is_bits or not spec.type.is_integer:
        why = "a float has NaN" if spec.type in _FLOATS else f"this is {_what(group, spec)}"
        raise Complaint(here, f"{spec.null_value}: only integers and BCD in registers have one; {why}")
    bits = spec.type.bits
    lowest = -(2 ** (bits - 1)) if spec.type.value.startswith("int") else 0
    if not lowest <= spec.null_value < 2**bits:
        digits = bits // 4
        or_signed = f" (or {lowest} to {-lowest - 1})" if lowest else ""
        raise Complaint(
            here,
            f"{spec.null_value} does not fit the bits of {spec.type.value!r}: 0x{0:0{digits}X} to "
            f"0x{2**bits - 1:0{digits}X}{or_signed}",
        )


def _check_access(place: Place, group: GroupSpec, spec: ParameterSpec) -> None:
    if spec.writable and not group.table.is_writable:
        raise Complaint((*place, "writable"), f"a client cannot write {group.table.value}s")
    if spec.writable and not isinstance(spec.signal, Constant | Text | None):
        raise Complaint(
            (*place, "writable"),
            f"a {spec.signal.kind!r} signal makes its own value; only a 'constant' one can be written",
        )
    if not spec.readable and not spec.writable:
        raise Complaint(
            (*place, "readable"), "nobody could use it: false needs writable: true (a write-only parameter)"
        )


def _check_signal(place: Place, spec: ParameterSpec) -> None:
    here, signal = (*place, "signal"), spec.signal
    if signal is not None and signal.uses_setpoint and spec.setpoint is None:
        raise Complaint(here, f"{signal.kind!r} needs a setpoint that it can follow")
    if signal is not None and isinstance(signal, Text) != (spec.type is DataType.STRING):
        raise Complaint(
            here,
            f"{signal.kind!r} is no signal of a {spec.type.value!r}: strings have 'text', and only they",
        )
    if isinstance(signal, Text) and spec.length is not None:
        coded = signal.value.encode()
        if len(coded) > spec.length:
            raise Complaint(here, f"{signal.value!r} has {len(coded)} bytes; the length is {spec.length}")
        if b"\0" in coded:
            raise Complaint(here, f"{signal.value!r} has a NUL, which would end it")
    if isinstance(signal, Missing) and spec.null_value is None and spec.type not in _FLOATS:
        raise Complaint(
            here, f"'missing' needs a null_value: a {spec.type.value!r} without one would read as 0"
        )


def _what(group: GroupSpec, spec: ParameterSpec) -> str:
    return f"{spec.type.value!r} in {group.table.value}s"
