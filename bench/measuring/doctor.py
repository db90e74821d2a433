"""All probes of `plcbench doctor` together: about eight seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from psycopg import Connection

from bench.analysis.abilities import NULL_RATE_PER_S, RECORDING_RATE_PER_S, Probes
from bench.load.loops import STORED, open_loop
from bench.measuring.host import host_facts
from bench.measuring.latency import Merged
from bench.measuring.probes import (
    clock_call_us,
    clock_step_us,
    database_us,
    fsync_us,
    loopback_us,
    pauses_ms,
    record_us,
    sleep_overshoot_us,
)
from bench.measuring.resources import is_postgres
from logger.database.embedded import data_folder

PLANNED_S = 9.0
_PAUSES_S = 2.0
_LOOP_S = 1.5


def probe(connection: Connection[Any], say: Callable[[str, float], None]) -> Probes:
    """Probe this machine and the way to the server; raises PlcsimError."""
    folder = data_folder()
    folder.mkdir(parents=True, exist_ok=True)
    say("clock", 0.5)
    sleep = sleep_overshoot_us(300)
    pauses, stolen = pauses_ms(_PAUSES_S)
    say("pauses", _PAUSES_S)
    pacing = _pacing_share()
    wait_ms, achieved = _null_target()
    say("generator", 2 * _LOOP_S)
    fsync = fsync_us(folder, 200)
    say("disk", 0.5)
    loopback, database = loopback_us(2000), database_us(connection, 1000)
    say("round trips", 1.0)
    return Probes(
        clock_call_us=_rounded(clock_call_us()),
        clock_step_us=_rounded(clock_step_us()),
        sleep_overshoot_p50_us=_quantile(sleep, 50),
        sleep_overshoot_p99_us=_quantile(sleep, 99),
        pauses_per_s=len(pauses) / _PAUSES_S,
        longest_pause_ms=_rounded(max(pauses, default=0.0)),
        stolen_share=_rounded(stolen),
        record_us=_rounded(record_us()),
        pacing_share=_rounded(pacing),
        null_wait_p99_ms=_rounded(wait_ms),
        null_achieved_per_s=round(achieved, 1),
        fsync_p50_us=_quantile(fsync, 50),
        fsync_p99_us=_quantile(fsync, 99),
        loopback_p50_us=_quantile(loopback, 50),
        loopback_p99_us=_quantile(loopback, 99),
        database_p50_us=_quantile(database, 50),
        database_p99_us=_quantile(database, 99),
        server_is_local=is_postgres(connection.info.backend_pid),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        free_bytes=int(host_facts(folder)["data_folder_free_bytes"] or 0),
        is_root=os.geteuid() == 0,
    )


def _pacing_share() -> float:
    """Share of a core that waiting for intended starts and recording them takes, where nothing is done."""
    before = time.process_time()
    loop = open_loop(lambda: STORED, _LOOP_S, RECORDING_RATE_PER_S)
    return (time.process_time() - before) / loop.seconds


def _null_target() -> tuple[float, float]:
    loop = open_loop(lambda: STORED, _LOOP_S, NULL_RATE_PER_S)
    return Merged([loop.wait]).percentile_us(99) / 1000, loop.transactions / loop.seconds


def _quantile(figures: list[float], percent: float) -> float:
    return round(float(np.percentile(figures, percent)), 1)


def _rounded(figure: float) -> float:
    return round(figure, 4)
