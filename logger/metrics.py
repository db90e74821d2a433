"""`/metrics` for Prometheus and `/health` for whoever restarts things, over HTTP in a thread of its own."""

from __future__ import annotations

import errno
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Self

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from logger.figures import STORING, DeviceFigures, Figures
from logger.histogram import Histogram
from logger.status_file import STALE_AFTER_S
from plcsim.errors import InputError, PlcsimError

log = logging.getLogger(__name__)

Look = Callable[[], Sequence[Figures]]
"""The newest figures of each process of the logger."""

_BOUNDS = tuple(step * 10.0**decade for decade in range(-4, 3) for step in (1.0, 2.5, 5.0))
"""Of the histograms that Prometheus sees: 0.1 ms to 500 s."""
_BUCKETS = tuple(float(f"{bound:.3g}") for bound in _BOUNDS)

_LATENCIES = {
    "lag": "From the due time of a scan to its start.",
    "response": "From the due time of a scan to its proven commit.",
    "freshness": "From the first reply of a scan to its proven commit, by the wall clock.",
    "commit": "From the start of a transaction to its proven commit.",
}
_OF_PROCESS: dict[str, tuple[str, Callable[[Figures], float]]] = {
    "stored_scans": ("Scans whose commit is proven.", lambda f: f.stored_scans),
    "stored_rows": ("History rows whose commit is proven.", lambda f: f.stored_rows),
    "transactions": ("Transactions whose commit is proven.", lambda f: f.transactions),
    "reconnects": ("Connections to the database that replaced one.", lambda f: f.reconnects),
    "gaps": ("Gap records.", lambda f: f.gaps),
    "quarantined": ("Scans that the database refused for good.", lambda f: f.quarantined),
    "spool_accepted": ("Scans and gap records that the spool has made durable.", lambda f: f.spool.accepted),
    "spool_dropped": (
        "Scans dropped because the spool was full or they were too old.",
        lambda f: f.spool.dropped,
    ),
    "spool_damaged": ("Records of the spool that could not be read back.", lambda f: f.spool.damaged),
    "cpu_seconds": ("Processor time.", lambda f: f.cpu_s),
}
_NOW: dict[str, tuple[str, Callable[[Figures], float]]] = {
    "database_up": ("1 while what is read is stored.", lambda f: float(f.database == STORING)),
    "alarms": ("Things that an operator should look at; /health names them.", lambda f: len(f.alarms)),
    "spool_depth": ("Scans and gap records that are not stored yet.", lambda f: f.spool.depth),
    "spool_bytes": ("Size of the spool's files.", lambda f: f.spool.bytes),
    "spool_max_bytes": ("Size that the spool may have.", lambda f: f.spool.max_bytes),
    "spool_oldest_seconds": (
        "Age of the oldest item that is not stored yet.",
        lambda f: f.spool.oldest_age_s,
    ),
    "figures_time_seconds": ("When these figures were taken, seconds since 1970.", lambda f: f.at),
}
_OF_DEVICE: dict[str, tuple[str, Callable[[DeviceFigures], float]]] = {
    "scans": ("Scans that were read, good or bad.", lambda d: d.scans),
    "missed": ("Scans that were due and not read: gap records.", lambda d: d.missed),
    "failed_scans": ("Scans that read nothing at all.", lambda d: d.failed),
    "read_errors": ("Requests without an answer that we may believe.", lambda d: d.read_errors),
    "requests": ("Requests that were sent.", lambda d: d.requests),
    "timeouts": ("Requests without an answer in time.", lambda d: d.timeouts),
    "bad_replies": ("Replies that did not answer our request.", lambda d: d.bad_replies),
}


class FiguresCollector(Collector):
    """Makes metrics of figures at the moment when they are asked for."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        return []  # else the registry would collect to see what there is

    def collect(self) -> Iterator[Metric]:
        processes = self._look()
        for name, (text, value) in _OF_PROCESS.items():
            yield _labelled(CounterMetricFamily, name, text, [(_worker(f), value(f)) for f in processes])
        for name, (text, value) in _NOW.items():
            yield _labelled(GaugeMetricFamily, name, text, [(_worker(f), value(f)) for f in processes])
        retries = CounterMetricFamily(
            "plclogger_retries", "Storing that failed, by class.", labels=["worker", "class"]
        )
        for figures in processes:
            for kind, count in sorted(figures.retries.items()):
                retries.add_metric([_worker(figures), kind], count)
        yield retries
        for name, text in _LATENCIES.items():
            yield _histogram(name, text, [(_worker(f), getattr(f.latencies, name)) for f in processes])
        yield from _of_devices([device for figures in processes for device in figures.devices])


def _of_devices(devices: Sequence[DeviceFigures]) -> Iterator[Metric]:
    for name, (text, value) in _OF_DEVICE.items():
        samples = [(device.device_id, value(device)) for device in devices]
        yield _labelled(CounterMetricFamily, f"device_{name}", text, samples, "device")
    up = [(device.device_id, float(device.state == "connected")) for device in devices]
    yield _labelled(GaugeMetricFamily, "device_up", "1 while the device answers.", up, "device")
    exceptions = CounterMetricFamily(
        "plclogger_device_exceptions", "Exception replies, by code.", labels=["device", "code"]
    )
    for device in devices:
        for code, count in device.exceptions.items():
            exceptions.add_metric([device.device_id, code], count)
    yield exceptions


def _labelled(
    family: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    text: str,
    samples: Iterable[tuple[str, float]],
    label: str = "worker",
) -> Metric:
    metric = family(f"plclogger_{name}", text, labels=[label])
    for value, number in samples:
        metric.add_metric([value], number)
    return metric


def _histogram(name: str, text: str, samples: Iterable[tuple[str, Histogram]]) -> Metric:
    metric = HistogramMetricFamily(f"plclogger_{name}_seconds", text, labels=["worker"])
    for worker, histogram in samples:
        counts = zip((f"{bound:g}" for bound in _BUCKETS), histogram.at_most(_BUCKETS), strict=True)
        buckets = [*((bound, float(count)) for bound, count in counts), ("+Inf", float(histogram.count))]
        metric.add_metric([worker], buckets, histogram.total_s)
    return metric


def _worker(figures: Figures) -> str:
    return str(figures.worker)


def health(processes: Sequence[Figures], now: float | None = None) -> tuple[int, dict[str, object]]:
    """HTTP status and body: 200 while everything that is read is stored, and anything is read at all.

    A device that does not answer is named, but others being well it is no reason to restart us.
    """
    now = time.time() if now is None else now
    devices = [device for figures in processes for device in figures.devices]
    silent = [device.device_id for device in devices if device.state != "connected"]
    alarms = [alarm for figures in processes for alarm in _alarms(figures, now)]
    database = sorted({figures.database for figures in processes})
    well = not alarms and database == [STORING] and (len(silent) < len(devices) or not devices)
    return (200 if well else 503), {
        "status": "well" if well else "not well",
        "database": database,
        "alarms": alarms,
        "spooled": sum(figures.spooled for figures in processes),
        "devices": len(devices),
        "devices_without_answer": silent,
    }


def _alarms(figures: Figures, now: float) -> list[str]:
    """Those of a process; one that was killed, or hangs, would go on telling how well it was."""
    age_s = now - figures.at
    if figures.ended or age_s <= STALE_AFTER_S:
        return figures.alarms
    name = f"worker {figures.worker}" if figures.worker else "the logger"
    return [*figures.alarms, f"{name} has told nothing for {age_s:.0f} s"]


class MetricsServer:
    """Serves both at an address; a context manager. Raises PlcsimError if it cannot be bound."""

    def __init__(self, host: str, port: int, look: Look) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(FiguresCollector(look))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif path == "/health":
                    status, body = health(look())
                    self._answer(status, "application/json", json.dumps(body).encode() + b"\n")
                else:
                    self._answer(404, "text/plain; charset=utf-8", b"/metrics or /health\n")

            def _answer(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """A look is no event."""

        Handler.timeout = 5.0  # of a client that says nothing
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._server = _server_of(family)((str(address[0]), port), Handler)
        except OSError as exc:
            later = exc.errno == errno.EADDRINUSE  # whoever has it may go
            error = PlcsimError if later else InputError
            raise error(f"--metrics {host}:{port} cannot be bound: {exc.strerror or exc}") from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="metrics", daemon=True
        )

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        """Without asking for our host's name: while the name server is away that takes long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone before its answer is no event."""
        log.debug("the answer to %s failed", client_address, exc_info=True)


def _server_of(family: int) -> type[_Server]:
    return type("_Server", (_Server,), {"address_family": family})
