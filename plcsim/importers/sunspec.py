"""Lays a chain of SunSpec models out over holding registers: the marker, each model, the end.

Source: SunSpec Device Information Model Specification V1.2, sections 5 and 6. Register values are raw;
where a point names a scale factor, 10^factor is folded into `scale`, so that values are plant values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plcsim.errors import InputError
from plcsim.importers.defaults import SignalDict, constant, scale_factor_for, signal_for, text
from plcsim.importers.draft import Draft, Entry, Gap, Group, Names, clean_name, gaps_between, split_runs
from plcsim.importers.report import Report
from plcsim.importers.sunspec_model import END_MODEL_ID, ModelGroup, Point, SunSpecModel, load_model
from plcsim.importers.sunspec_points import CHANGED, LEFT_OUT, NULLS, TYPES, first_state, symbols_of
from plcsim.limits import MAX_ADDRESS, MAX_READ_REGISTERS
from plcsim.parameters import DataType, Table

MARKER = 0x53756E53
"""`SunS`, at the base address."""
DEFAULT_BASE_ADDRESS = 40_000

_TABLE = Table.HOLDING_REGISTER
_CHAIN = "sunspec"
"""Component of what belongs to no model."""
_REPEAT_POINTS = ("N", "NCrv")
"""Where older models keep the number of groups that repeat as their length says."""


@dataclass(frozen=True, slots=True)
class SunSpecOptions:
    """What the models leave to the device."""

    base_address: int = DEFAULT_BASE_ADDRESS
    repeats: int = 1
    """Of each group whose number the device decides."""
    scale_factors: Mapping[str, int] = field(default_factory=dict)
    """Exponents by name of their point, or by `model id.name`."""


def import_sunspec(paths: Sequence[Path], options: SunSpecOptions) -> tuple[Draft, Report]:
    """Read model files, in the order in which the device has them.

    Raises ConfigError for a file that is no model, InputError for what does not fit together.
    """
    models = [load_model(path) for path in paths]
    _check_scale_factors(models, options)
    report, components, names = Report("points"), Names(), Names()
    components.unique(_CHAIN)
    address = options.base_address
    marker = _fixed("marker", address, MARKER, DataType.UINT32)
    groups = [Group(names.unique("marker"), _TABLE, [marker])]
    gaps: list[Gap] = []
    address += 2
    for model in models:
        size = _registers(model.group, options.repeats)
        if address + size + 2 > MAX_ADDRESS + 1:
            raise InputError(
                f"model {model.id} would take registers {address} to {address + size - 1}; "
                f"with the end of the chain, {MAX_ADDRESS} is the last there is"
            )
        laid = _Layout(model, components, address, size, options, report)
        groups += [Group(names.unique(laid.component), _TABLE, run) for run in laid.runs()]
        gaps += gaps_between(_TABLE, [range(address, address + size)], laid.entries)
        address += size
    end = [
        _fixed("end_id", address, END_MODEL_ID, DataType.UINT16),
        _fixed("end_length", address + 1, 0, DataType.UINT16),
    ]
    ids = ", ".join(str(model.id) for model in models)
    return (
        Draft(
            device_id="sunspec",
            name=f"SunSpec device with model{'s' if len(models) > 1 else ''} {ids}",
            origin=f"{', '.join(path.name for path in paths)}: SunSpec model definitions",
            unit_id=1,
            groups=[*groups, Group(names.unique("end"), _TABLE, end)],
            gaps=gaps,
        ),
        report,
    )


def _fixed(name: str, address: int, value: int, data_type: DataType) -> Entry:
    return Entry(_CHAIN, name, _TABLE, address, data_type, constant(value))


def _check_scale_factors(models: Sequence[SunSpecModel], options: SunSpecOptions) -> None:
    known = {
        name
        for model in models
        for group in model.group.every()
        for point in group.points
        if point.type == "sunssf"
        for name in (point.name, f"{model.id}.{point.name}")
    }
    for name in options.scale_factors:
        if name not in known:
            raise InputError(f"--scale-factor {name}: no model has a scale factor of this name")


def _times(group: ModelGroup, repeats: int) -> int:
    return group.count if isinstance(group.count, int) and group.count else repeats


def _registers(group: ModelGroup, repeats: int) -> int:
    """Size of one copy of a group, with all that is in it."""
    own = sum(point.size * point.count for point in group.points)
    return own + sum(_times(inner, repeats) * _registers(inner, repeats) for inner in group.groups)


class _Layout:
    """Places the points of one model one behind the other."""

    def __init__(
        self,
        model: SunSpecModel,
        components: Names,
        address: int,
        size: int,
        options: SunSpecOptions,
        report: Report,
    ) -> None:
        self._model = model
        self._components = components
        self._options = options
        self._report = report
        self._start = self._address = address
        self._size = size
        self._exponents = self._chosen_exponents()
        self._repeat_points = {
            inner.count
            for group in model.group.every()
            for inner in group.groups
            if isinstance(inner.count, str)
        }
        if any(inner.count == 0 for inner in model.group.groups):
            self._repeat_points.update(_REPEAT_POINTS)
        self.component = components.unique(clean_name(model.group.name, f"model_{model.id}"))
        self.entries: list[Entry] = []
        self._place(model.group, self.component)

    def runs(self) -> list[list[Entry]]:
        """The model in parts that one request can read."""
        return list(split_runs(self.entries, MAX_READ_REGISTERS))

    def _chosen_exponents(self) -> dict[str, int]:
        """Of each scale factor: what the user said, else what the unit of its first user suggests."""
        exponents: dict[str, int] = {}
        given = self._options.scale_factors
        for group in self._model.group.every():
            for point in group.points:
                for name in (point.sf, point.name if point.type == "sunssf" else None):
                    if isinstance(name, str) and name not in exponents:
                        said = given.get(f"{self._model.id}.{name}", given.get(name))
                        exponents[name] = scale_factor_for(point.units) if said is None else said
        return exponents

    def _place(self, group: ModelGroup, component: str) -> None:
        names = Names()
        for point in group.points:
            for number in range(1, point.count + 1):
                suffix = f"_{number}" if point.count > 1 else ""
                wished = point.name + suffix
                bare = clean_name(point.name).replace(".", "_")  # a dot parts component and name
                name = names.unique(bare[: 63 - len(suffix)] + suffix)
                self._place_point(point, component, name, f"{component}.{wished}")
                self._address += point.size
        for inner in group.groups:
            times = _times(inner, self._options.repeats)
            if inner.count == 0 or isinstance(inner.count, str):
                what = f"repeats as often as the device says; imported {times} time{'s' if times > 1 else ''}"
                self._report.change(f"{component}.{inner.name}", f"{what} (--repeats)")
            for number in range(1, times + 1):
                part = f"_{number}" if times > 1 or inner.count != 1 else ""
                wished = clean_name(f"{component}.{inner.name}{part}")
                self._place(inner, self._components.unique(wished))

    def _place_point(self, point: Point, component: str, name: str, where: str) -> None:
        if (problem := LEFT_OUT.get(point.type)) is not None:
            self._report.leave_out(where, problem)
            return
        if point.size > MAX_READ_REGISTERS:
            problem = f"takes {point.size} registers; one request reads at most {MAX_READ_REGISTERS}"
            self._report.leave_out(where, f"{problem}. They are answered with 0")
            return
        writable = point.access == "RW" and point.type != "sunssf"
        scale = self._scale(point)
        self.entries.append(
            Entry(
                component,
                name,
                _TABLE,
                self._address,
                TYPES[point.type],
                self._signal(point, scale, writable),
                length=2 * point.size if point.type == "string" else None,
                null_value=NULLS.get(point.type),
                scale=scale,
                unit=point.units.strip()[:60],
                writable=writable,
                comment=symbols_of(point),
            )
        )
        self._report.take()
        for remark in self._remarks(point, name, writable):
            self._report.change(where, remark)

    def _scale(self, point: Point) -> float:
        if point.sf is None or not TYPES[point.type].is_integer:
            return 1.0
        exponent = point.sf if isinstance(point.sf, int) else self._exponents[point.sf]
        return float(f"1e{exponent}")

    def _remarks(self, point: Point, name: str, writable: bool) -> Iterator[str]:
        if name != point.name and point.count == 1:
            yield f"is called {name!r}"
        if point.type in CHANGED:
            yield CHANGED[point.type]
        if point.access == "RW" and not writable:
            yield "a client may write it; imported as read only"
        if point.symbols:
            yield f"the names of its values ({len(point.symbols)}) stand in a comment only"
        if self._address == self._start + 1 and point.value not in (None, self._size - 2):
            yield f"{str(point.value)[:20]!r} in the model; its points take {self._size - 2}"
        if point.type == "sunssf" and not self._is_given(point.name):
            exponent = self._exponents[point.name]
            guess = f"{exponent} is a guess, folded into `scale` where it is used"
            yield f"{guess}; a device's own: --scale-factor {point.name}=N"

    def _is_given(self, name: str) -> bool:
        return not {name, f"{self._model.id}.{name}"}.isdisjoint(self._options.scale_factors)

    def _signal(self, point: Point, scale: float, writable: bool) -> SignalDict:
        data_type, null_value = TYPES[point.type], NULLS.get(point.type)
        if point.type == "string":
            shown = point.value if isinstance(point.value, str) else point.label or point.name
            return text(shown, 2 * point.size)
        if (value := self._known_value(point)) is not None:
            return constant(value * scale)
        if point.type.startswith("enum") and point.symbols and (writable or point.mandatory == "M"):
            return constant(first_state(point))
        suggested = signal_for(
            f"{point.name} {point.label}",
            point.units,
            data_type,
            scale,
            fixed=writable,
            null_value=null_value,
        )
        if suggested is not None:
            return suggested
        if point.type.startswith("acc") and not writable:
            return {"kind": "counter", "start": 1000, "wrap": min(2**data_type.bits, 2**53)}
        if writable or point.mandatory == "M":
            return constant(0)
        return {"kind": "missing"}

    def _known_value(self, point: Point) -> float | None:
        """Of points whose value follows from the model itself."""
        if self._address == self._start:
            return self._model.id
        if self._address == self._start + 1:
            return self._size - 2
        if point.type == "sunssf":
            return self._exponents[point.name]
        if point.name in self._repeat_points and point.type in ("uint16", "count"):
            return self._options.repeats
        if point.type == "ipaddr":
            return 0
        if isinstance(point.value, int) and abs(point.value) < 2**53:
            return point.value
        return 1 if self._model.id == 1 and point.name == "DA" else None
