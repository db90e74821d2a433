"""The load of a worker by its old name: `work` says what is asked, `loops` how, `worker` by whom."""

from bench.arms.spec import SHARED_SYNCHRONIZING
from bench.load.work import Loop, SlotRequest, SlotResult, WorkerInfo, WorkerSettings, device_id_of
from bench.load.worker import close, prepare, run_slot

__all__ = [
    "SHARED_SYNCHRONIZING",
    "Loop",
    "SlotRequest",
    "SlotResult",
    "WorkerInfo",
    "WorkerSettings",
    "close",
    "device_id_of",
    "prepare",
    "run_slot",
]
