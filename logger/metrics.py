"""`/metrics` for Prometheus and `/health` for whoever restarts things, over HTTP in a thread of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from logger.figures import STORING, DeviceFigures, Figures
from logger.histogram import Histogram
from plcsim.errors import PlcsimError

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


def health(processes: Sequence[Figures]) -> tuple[int, dict[str, object]]:
    """HTTP status and body: 200 while everything that is read is stored, and anything is read at all.

    A device that does not answer is named, but others being well it is no reason to restart us.
    """
    silent = [d.device_id for f in processes for d in f.devices if d.state != "connected"]
    well = bool(processes) and all(figures.is_well for figures in processes)
    return (200 if well else 503), {
        "status": "well" if well else "not well",
        "database": sorted({figures.database for figures in processes}),
        "alarms": [alarm for figures in processes for alarm in figures.alarms],
        "spooled": sum(figures.spooled for figures in processes),
        "devices": sum(len(figures.devices) for figures in processes),
        "devices_without_answer": silent,
    }


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
            self._server = _Server((host, port), Handler)
        except OSError as exc:
            raise PlcsimError(f"--metrics {host}:{port} cannot be bound: {exc.strerror or exc}") from None
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
