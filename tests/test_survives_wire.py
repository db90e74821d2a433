"""A commit cut up by the network: half a request, half an answer, no answer on a connection that stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fix_forwarder import SETTINGS, Start, as_logged, stored_values
from fix_postgres import Schema
from fix_proxy import Proxy
from fix_scans import Oven
from spoiled import asks_nobody

from logger.forwarding import anchoring

STORES = b"synchronizing"
EVERY = 3
SETTINGS_IN_A_HURRY = replace(SETTINGS, deadline_s=0.3)


class Fates:
    """Every third request that stores suffers, so often."""

    def __init__(self, fate: str, times: int) -> None:
        self._fate, self._left, self._seen = fate, times, 0

    def __call__(self, request: bytes) -> str | None:
        if STORES not in request or b"logging_streams" in request or not self._left:
            return None
        self._seen += 1
        if self._seen % EVERY:
            return None
        self._left -= 1
        return self._fate


@pytest.mark.parametrize(
    ("fate", "times", "is_careful"),
    [("partway", 5, True), ("half", 5, True), ("hole", 1, True), ("half", 5, False)],
    ids=["half a request", "half an answer", "black hole", "control: without asking what is stored"],
)
def test_each_scan_is_stored_once_whatever_of_its_commit_comes_through(
    schema: Schema, oven: Oven, proxy: Proxy, storing: Start, monkeypatch: pytest.MonkeyPatch,
    fate: str, times: int, is_careful: bool,
) -> None:  # fmt: skip
    if not is_careful:
        monkeypatch.setattr(anchoring, "_plan", anchoring._plan)  # put back what follows takes out
        asks_nobody()
    proxy.fate = Fates(fate, times)
    run = storing(through=proxy, settings=SETTINGS_IN_A_HURRY).start()
    scans = [oven.scan(number) for number in range(1, EVERY * (times + 2))]
    for scan in scans:
        run.put(scan)
        run.until_stored()
    assert run.close() == 0
    assert proxy.landed == {fate: times}
    print(f"\n{times} times {fate}, {dict(run.forwarder.figures().retries)}")
    assert (stored_values(schema) == as_logged(scans)) is is_careful
