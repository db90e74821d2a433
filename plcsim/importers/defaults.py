"""Plausible signals for imported parameters: what a unit and a name suggest, within what the type holds."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from plcsim.parameters import DataType

SignalDict = dict[str, Any]


class _Plausible(NamedTuple):
    """A sine around `mean`; with `total`, a ramp that starts there and grows for the period instead."""

    mean: float
    amplitude: float
    period_s: float = 60.0
    total: bool = False


_MONTH_S = 2_592_000.0
_BY_UNIT = {
    "v": _Plausible(230, 2),
    "kv": _Plausible(20, 0.2),
    "mv": _Plausible(500, 20),
    "a": _Plausible(10, 1),
    "ma": _Plausible(12, 2),
    "w": _Plausible(2300, 200),
    "kw": _Plausible(23, 2),
    "mw": _Plausible(2.3, 0.2),
    "va": _Plausible(2400, 200),
    "kva": _Plausible(24, 2),
    "var": _Plausible(300, 50),
    "kvar": _Plausible(3, 0.5),
    "hz": _Plausible(50, 0.02),
    "wh": _Plausible(12_000_000, 2_000_000, _MONTH_S, total=True),
    "kwh": _Plausible(12_000, 2_000, _MONTH_S, total=True),
    "mwh": _Plausible(1_200, 20, _MONTH_S, total=True),
    "vah": _Plausible(13_000_000, 2_000_000, _MONTH_S, total=True),
    "kvah": _Plausible(13_000, 2_000, _MONTH_S, total=True),
    "varh": _Plausible(1_500_000, 250_000, _MONTH_S, total=True),
    "kvarh": _Plausible(1_500, 250, _MONTH_S, total=True),
    "ah": _Plausible(50_000, 8_000, _MONTH_S, total=True),
    "c": _Plausible(35, 3, 600),
    "k": _Plausible(308, 3, 600),
    "%": _Plausible(50, 5),
    "bar": _Plausible(4, 0.2),
    "mbar": _Plausible(1000, 10),
    "pa": _Plausible(101_000, 500),
    "hpa": _Plausible(1010, 5),
    "rpm": _Plausible(1480, 10),
    "w/m2": _Plausible(600, 150, 600),
    "m/s": _Plausible(4, 1),
    "l/min": _Plausible(12, 1),
    "m3/h": _Plausible(8, 0.5),
    "ppm": _Plausible(600, 50, 300),
}
_SPELLINGS = {
    "volt": "v",
    "volts": "v",
    "amp": "a",
    "amps": "a",
    "ampere": "a",
    "watt": "w",
    "watts": "w",
    "°c": "c",
    "℃": "c",
    "degc": "c",
    "deg c": "c",
    "celsius": "c",
    "pct": "%",
    "%rh": "%",
    "hertz": "hz",
    "vars": "var",
    "w/m^2": "w/m2",
    "m³/h": "m3/h",
}
_POWER_FACTOR = re.compile(r"power.?factor|cos.?phi|(?:^|[^a-z])pf(?:[^a-z]|$)", re.IGNORECASE)
_LINE_TO_LINE = re.compile(r"ppv|line.{0,3}to.{0,3}line|l[123].{0,4}l[123]|(?:ab|bc|ca).?line", re.IGNORECASE)
_NO_SCALE_FACTOR = 0
_SCALE_FACTORS = {"v": -1, "a": -2, "hz": -2, "c": -1, "%": -1, "cos()": -3, "pf": -3, "kw": -2}


def signal_for(
    name: str,
    unit: str,
    data_type: DataType,
    scale: float,
    *,
    fixed: bool = False,
    null_value: int | None = None,
) -> SignalDict | None:
    """What a value of this name and unit may plausibly do; None where neither says anything.

    `fixed` asks for a constant: what a client may write keeps still otherwise. A scale so coarse or a
    type so small that the plausible value would not show gets 100 ± 20 raw steps instead.
    """
    plausible = _plausible(name, unit)
    if plausible is None:
        return None
    mean, amplitude, period_s, total = plausible
    low, high = (mean, mean + amplitude) if total else (mean - amplitude, mean + amplitude)
    if not _fits(low, high, data_type, scale, null_value):
        mean, amplitude, period_s, total = 100 * scale, 20 * abs(scale), 60.0, False
    if fixed:
        return {"kind": "constant", "value": mean}
    if total:
        return {"kind": "ramp", "start": mean, "end": mean + amplitude, "period_s": period_s}
    return {"kind": "sine", "mean": mean, "amplitude": amplitude, "period_s": period_s}


def constant(value: float) -> SignalDict:
    return {"kind": "constant", "value": value}


def text(value: str, length: int) -> SignalDict:
    """`value` in ASCII, cut to what `length` bytes hold."""
    shown = "".join(c if c.isascii() and c.isprintable() else "?" for c in value)
    return {"kind": "text", "value": shown[:length]}


def scale_factor_for(unit: str) -> int:
    """Exponent of ten that a SunSpec device would plausibly choose for values of this unit."""
    return _SCALE_FACTORS.get(_normal(unit), _NO_SCALE_FACTOR)


def _normal(unit: str) -> str:
    lower = unit.strip().lower()
    return _SPELLINGS.get(lower, lower)


def _plausible(name: str, unit: str) -> _Plausible | None:
    normal = _normal(unit)
    if _POWER_FACTOR.search(name):
        return _Plausible(95, 2) if normal == "%" else _Plausible(0.95, 0.02)
    if normal == "v" and _LINE_TO_LINE.search(name):
        return _Plausible(400, 3)
    return _BY_UNIT.get(normal)


def _fits(low: float, high: float, data_type: DataType, scale: float, null_value: int | None) -> bool:
    """Whether raw values hold the range and tell its two ends apart."""
    if not data_type.is_integer:
        return True
    ends = sorted((low / scale, high / scale))
    least, most = raw_limits(data_type)
    clear_of_null = null_value is None or not ends[0] - 1 <= null_value <= ends[1] + 1
    return least <= ends[0] and ends[1] <= most and ends[1] - ends[0] >= 2 and clear_of_null


def raw_limits(data_type: DataType) -> tuple[int, int]:
    """Least and most of an integer type, without the patterns that SunSpec sets aside at its ends."""
    if data_type.value.startswith("uint"):
        return 0, 2**data_type.bits - 2
    if data_type.value.startswith("bcd"):
        return 0, 10 ** (data_type.bits // 4) - 1
    return -(2 ** (data_type.bits - 1)) + 1, 2 ** (data_type.bits - 1) - 1
