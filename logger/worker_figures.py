"""The figures of a logger of several processes: those of its workers, as if they were one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from logger.figures import STORING, Figures, Latencies, SpoolState
from logger.histogram import together


def of_workers(name: str, workers: Sequence[Figures], restarts: int = 0) -> Figures:
    """All workers of one logger as if they were one process; counts of dead ones are not in it."""
    summed = ("parameters", "requests", "stored_scans", "stored_rows", "transactions", "reconnects", "gaps")
    return Figures(
        name=name,
        at=min((each.at for each in workers), default=0.0),
        seconds=max((each.seconds for each in workers), default=0.0),
        cpu_s=sum(each.cpu_s for each in workers),
        stopping=any(each.stopping for each in workers),
        ended=all(each.ended for each in workers),
        database=_state_of(workers),
        alarms=[f"worker {each.worker}: {alarm}" for each in workers for alarm in each.alarms],
        quarantined=sum(each.quarantined for each in workers),
        restarts=restarts,
        retries=sum((each.retries for each in workers), Counter()),
        spool=_spool_of([each.spool for each in workers]),
        devices=[device for each in workers for device in each.devices],
        latencies=_latencies_of([each.latencies for each in workers]),
        **{field: sum(getattr(each, field) for each in workers) for field in summed},
    )


def _state_of(workers: Iterable[Figures]) -> str:
    states = sorted({each.database for each in workers}, key=lambda state: state == STORING)
    return states[0] if states else "not yet connected"


def _spool_of(spools: Sequence[SpoolState]) -> SpoolState:
    oldest = max((spool.oldest_age_s for spool in spools), default=0.0)
    summed = ("depth", "bytes", "max_bytes", "accepted", "dropped", "damaged", "torn")
    return SpoolState(
        oldest_age_s=oldest,
        error="; ".join(spool.error for spool in spools if spool.error),
        **{name: sum(getattr(spool, name) for spool in spools) for name in summed},
    )


def _latencies_of(each: Sequence[Latencies]) -> Latencies:
    return Latencies(
        lag=together(latencies.lag for latencies in each),
        response=together(latencies.response for latencies in each),
        freshness=together(latencies.freshness for latencies in each),
        commit=together(latencies.commit for latencies in each),
    )
