"""Which requests faults hit, by windows, counts and dice; what is told of them. Time is the test's own."""

from __future__ import annotations

import random
from typing import Any

import pytest

from plcsim.errors import InputError
from plcsim.faults.engine import FaultEngine, FaultStatus
from plcsim.faults.rules import FAULT_RULE, ClockJump, MaxConnections, Refuse, Restart
from plcsim.protocol.requests import Request

READ = Request(7, 1, bytes.fromhex("03 0010 0004"), "10.0.0.1:999")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(clock: Clock) -> FaultEngine:
    return FaultEngine("d", 1, clock=clock)


def add(engine: FaultEngine, kind: str = "busy", **keys: Any) -> str:
    return engine.add(FAULT_RULE.validate_python({"kind": kind} | keys))


def serve(engine: FaultEngine, request: Request = READ) -> list[str]:
    """Names of the faults that hit and land."""
    hits = list(engine.hits(request))
    for hit in hits:
        engine.has_landed(hit, 5, request)
    return [hit.name for hit in hits]


def status(engine: FaultEngine) -> FaultStatus:
    (only,) = engine.rules()
    return only


def test_a_fault_hits_every_request_that_fits(engine: FaultEngine) -> None:
    add(engine, functions=[3])
    assert [serve(engine) for _ in range(3)] == 3 * [["busy-1"]]
    assert serve(engine, READ._replace(pdu=b"\x04\0\0\0\1")) == []
    assert (status(engine).fitted, status(engine).fired, status(engine).landed) == (3, 3, 3)


def test_every_nth_request_counts_only_those_that_fit(engine: FaultEngine) -> None:
    add(engine, every=3, functions=[3])
    other = READ._replace(pdu=b"\x04\0\0\0\1")
    assert [bool(serve(engine, r)) for r in [READ, other, READ, other, READ, READ, READ, READ]] == [
        *[False, False, False, False, True],
        *[False, False, True],
    ]


def test_count_ends_it(engine: FaultEngine) -> None:
    add(engine, count=2)
    assert [bool(serve(engine)) for _ in range(4)] == [True, True, False, False]
    assert (status(engine).in_force, status(engine).fitted) == (False, 2)


def test_what_did_not_land_does_not_count(engine: FaultEngine) -> None:
    add(engine, count=1)
    assert len(list(engine.hits(READ))) == 1
    assert len(list(engine.hits(READ))) == 1
    assert (status(engine).fired, status(engine).landed, status(engine).in_force) == (2, 0, True)


def test_a_window_opens_and_closes(engine: FaultEngine, clock: Clock) -> None:
    clock.now = 50.0
    add(engine, after_s=1.5, for_s=2.0)
    seen = {}
    for now in (50.0, 51.49, 51.5, 53.49, 53.5, 99.0):
        clock.now = now
        seen[now] = (bool(serve(engine)), status(engine).in_force)
    open_at = [now for now, (hit, _) in seen.items() if hit]
    assert open_at == [51.5, 53.49]
    assert all(hit == in_force for hit, in_force in seen.values())


def test_windows_of_a_device_file_count_from_when_it_is_served(engine: FaultEngine, clock: Clock) -> None:
    add(engine, after_s=1, for_s=1)
    clock.now += 60
    engine.start()
    assert engine.until_next_edge() == 1
    clock.now += 1
    assert serve(engine) == ["busy-1"]


@pytest.mark.parametrize("seed", range(5))
def test_at_every_edge_the_window_has_changed(engine: FaultEngine, clock: Clock, seed: int) -> None:
    """However the clock's numbers are rounded: a timer set to the edge finds it passed when it fires."""
    dice = random.Random(seed)
    for _ in range(200):
        clock.now = dice.uniform(1, 1e6)
        name = add(engine, "refuse", after_s=dice.uniform(0.001, 5), for_s=dice.uniform(0.001, 5))
        states = []
        while (wait_s := engine.until_next_edge()) is not None:
            (fault,) = engine.of(Refuse)
            clock.now = fault.opens_at if clock.now < fault.opens_at else fault.closes_at
            assert wait_s > 0
            states.append(bool(engine.open_now(Refuse)))
        assert states == [True, False]
        engine.remove(name)


def test_the_next_edge_is_the_nearest_of_all(engine: FaultEngine, clock: Clock) -> None:
    assert engine.until_next_edge() is None
    add(engine)
    assert engine.until_next_edge() is None
    add(engine, after_s=8)
    add(engine, after_s=4, for_s=1)
    assert engine.until_next_edge() == 4
    clock.now += 4
    assert engine.until_next_edge() == 1
    clock.now += 1
    assert engine.until_next_edge() == 3
    clock.now += 3
    assert engine.until_next_edge() is None


def hit_pattern(seed: int, device: str = "d", **keys: Any) -> list[bool]:
    engine = FaultEngine(device, seed, clock=Clock())
    add(engine, **({"probability": 0.3} | keys))
    return [bool(serve(engine)) for _ in range(1000)]


def test_the_same_seed_hits_the_same_requests() -> None:
    assert hit_pattern(1) == hit_pattern(1)
    assert len({tuple(hit_pattern(1)), tuple(hit_pattern(2)), tuple(hit_pattern(1, "e"))}) == 3
    assert hit_pattern(1) != hit_pattern(1, name="another")


def test_another_fault_does_not_change_the_dice() -> None:
    engine = FaultEngine("d", 1, clock=Clock())
    add(engine, "delay", seconds=1, probability=0.5, name="x")
    add(engine, probability=0.3)
    assert ["busy-1" in serve(engine) for _ in range(1000)] == hit_pattern(1)


def test_probability_is_kept() -> None:
    hits = sum(hit_pattern(1))  # of 1000 with 0.3: 5 standard deviations are 72
    assert 228 < hits < 372
    assert 25 < sum(hit_pattern(1, every=5)) < 95


def test_names_are_made_and_are_unique(engine: FaultEngine) -> None:
    assert [add(engine), add(engine), add(engine, name="mine"), add(engine)] == [
        *["busy-1", "busy-2", "mine", "busy-3"]
    ]
    engine.remove("busy-2")
    assert add(engine) == "busy-2"
    with pytest.raises(InputError, match=r"'mine': d has one of this name already"):
        add(engine, name="mine")
    assert len(engine.rules()) == 4


def test_removing_what_is_not_there_says_what_is(engine: FaultEngine) -> None:
    with pytest.raises(InputError, match=r"'x': d has no such fault; it has none"):
        engine.remove("x")
    add(engine)
    with pytest.raises(InputError, match=r"it has busy-1"):
        engine.remove("x")


def test_what_is_removed_hits_no_more_and_stays_counted(engine: FaultEngine) -> None:
    add(engine)
    add(engine, "delay", seconds=1)
    assert serve(engine) == ["busy-1", "delay-1"]
    engine.remove("busy-1")
    assert serve(engine) == ["delay-1"]
    assert engine.clear() == 1
    assert not engine
    assert serve(engine) == []
    assert engine.landed == 3


def test_watchers_are_told_of_every_change(engine: FaultEngine) -> None:
    calls: list[int] = []

    def changed() -> None:
        calls.append(len(engine.rules()))

    engine.watch(changed)
    add(engine)
    add(engine)
    engine.remove("busy-1")
    engine.clear()
    assert calls == [1, 2, 1, 0]
    engine.unwatch(changed)
    engine.unwatch(changed)
    add(engine)
    assert len(calls) == 4


def test_what_happens_once_is_due_from_its_time_until_it_landed(engine: FaultEngine, clock: Clock) -> None:
    add(engine, "restart", after_s=2)
    add(engine, "clock_jump", seconds=5)
    (jump,) = engine.due_once(Restart, ClockJump)
    engine.has_landed(jump, 0)
    assert engine.due_once(Restart, ClockJump) == []
    assert [each.in_force for each in engine.rules()] == [False, False]
    clock.now += 100  # nobody looked in time
    (restart,) = engine.due_once(Restart, ClockJump)
    engine.has_landed(restart, 0)
    assert engine.due_once(Restart, ClockJump) == []
    assert [(each.fired, each.landed, each.in_force) for each in engine.rules()] == 2 * [(1, 1, False)]


def test_connection_and_device_faults_hit_no_request(engine: FaultEngine) -> None:
    add(engine, "refuse")
    add(engine, "max_connections", connections=1)
    add(engine, "restart", for_s=1)
    assert serve(engine) == []
    assert [fault.rule.connections for fault in engine.open_now(MaxConnections)] == [1]
    assert [each.in_force for each in engine.rules()] == [True, True, True]


def test_an_event_says_what_was_hit(clock: Clock) -> None:
    told = []
    engine = FaultEngine("d", 1, told.append, clock)
    add(engine)
    serve(engine)
    (event,) = told
    assert list(engine.events) == told
    assert event.at.endswith("+00:00")
    assert len(event.at) == len("2026-01-01T00:00:00.000000+00:00")
    assert (event.device, event.fault, event.kind, event.plc_scan) == ("d", "busy-1", "busy", 5)
    assert (event.peer, event.transaction_id, event.unit_id) == ("10.0.0.1:999", 7, 1)
    assert (event.function_code, event.address, event.quantity) == (3, 16, 4)


def test_events_in_memory_do_not_grow_without_end() -> None:
    told: list[object] = []
    engine = FaultEngine("d", 1, told.append, Clock())
    add(engine)
    for _ in range(1500):
        serve(engine)
    assert (len(told), len(engine.events), engine.landed) == (1500, 1000, 1500)
    assert list(engine.events) == told[-1000:]


def test_status_shows_the_keys_that_were_given(engine: FaultEngine) -> None:
    add(engine, "delay", seconds=0.5, addresses=[1, 2])
    assert status(engine).rule == {"kind": "delay", "seconds": 0.5, "addresses": [1, 2]}
