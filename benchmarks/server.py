"""Requests/s of our Modbus server beside pymodbus' and libmodbus': 120 holding registers, one client.

The servers run at the same time, each in its process, and take turns under load, so that a disturbance
of the machine meets all of them; a figure is the median over the rounds of the ratio within a round.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter

from figures import figure, finish

ROUNDS = 9
SECONDS = 0.6
CONNECTIONS = (1, 3)
BOUNDS = {("pymodbus", 1): 2.0, ("pymodbus", 3): 2.0, ("libmodbus", 1): 0.9}
"""How many times the requests/s of another server ours must answer, at so many connections."""
REQUEST = bytes((0, 7, 0, 0, 0, 6, 1, 3, 0, 0, 0, 120))
REPLY_START = bytes((0, 7, 0, 0, 0, 243, 1, 3, 240))
REPLY_BYTES = 249

DEVICE = {
    "device": {"device_id": "benchmark"},
    "groups": [{"name": "values", "table": "holding_register", "parameters": [
        {"id": i + 1, "component": "plc", "name": f"value_{i}", "address": 2 * i, "type": "float32",
         "signal": {"kind": "noise", "mean": 20, "amplitude": 1}}
        for i in range(60)
    ]}],
}  # fmt: skip

LIBMODBUS = r"""
#include <modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/select.h>
int main(void) {
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", 0);
    modbus_mapping_t *map = modbus_mapping_new(0, 0, 120, 0);
    int listener = modbus_tcp_listen(ctx, 8), got;
    struct sockaddr_in at;
    getsockname(listener, (struct sockaddr *)&at, &(socklen_t){sizeof at});
    printf("127.0.0.1:%d\n", ntohs(at.sin_port));
    fflush(stdout);
    fd_set ready, all = {0};
    FD_SET(listener, &all);
    while (ready = all, select(16, &ready, NULL, NULL, NULL) > 0)
        for (int fd = 0; fd < 16; fd++) {
            if (!FD_ISSET(fd, &ready)) continue;
            if (fd == listener) { got = accept(fd, NULL, NULL); FD_SET(got, &all); continue; }
            modbus_set_socket(ctx, fd);
            if ((got = modbus_receive(ctx, query)) > 0) modbus_reply(ctx, query, got, map);
            else if (got < 0) { modbus_close(ctx); FD_CLR(fd, &all); }
        }
}
"""


async def serve_pymodbus() -> None:
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    registers = SimData(0, count=120, values=17, datatype=DataType.REGISTERS)
    server = ModbusTcpServer(SimDevice(1, [registers]), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    print(f"127.0.0.1:{server.transport.sockets[0].getsockname()[1]}", flush=True)
    await server.serving


def requests_per_second(port: int, connections: int) -> float:
    """The client, in its own process: one request in flight on each connection. It never sleeps but
    asks for the reply again and again: what is measured is the server, not how the system wakes it."""
    with ExitStack() as stack:
        where = ("127.0.0.1", port)
        clients = [stack.enter_context(socket.create_connection(where)) for _ in range(connections)]
        done, start = 0, perf_counter()
        while (elapsed := perf_counter() - start) < SECONDS:
            for client in clients:
                client.sendall(REQUEST)
            for client in clients:
                reply = _fetched(client)
                if len(reply) != REPLY_BYTES or not reply.startswith(REPLY_START):
                    raise RuntimeError(f"port {port} answered {reply.hex()}")
            done += connections
    return done / elapsed


def _fetched(client: socket.socket) -> bytes:
    while True:
        try:
            return client.recv(REPLY_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue


@contextmanager
def serving(command: list[str]) -> Iterator[int]:
    """A server process, which prints its 127.0.0.1:PORT first; gives the port."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().partition("127.0.0.1:")[2].partition(",")[0])
        finally:
            process.terminate()


def commands(folder: Path) -> dict[str, list[str]]:
    """The servers that this machine can run, ours first."""
    device, source, program = folder / "device.yaml", folder / "server.c", folder / "server"
    device.write_text(json.dumps(DEVICE))
    source.write_text(LIBMODBUS)
    servers = {
        "plcsim": [sys.executable, "-m", "plcsim", "run", str(device), "--port", "0"],
        "pymodbus": [sys.executable, __file__, "asyncio"],
        "pymodbus on uvloop": [sys.executable, __file__, "uvloop"],
    }
    build = ["gcc", "-O2", "-I/usr/include/modbus", str(source), "-lmodbus", "-o", str(program)]
    try:
        subprocess.run(build, check=True, capture_output=True)
        servers["libmodbus"] = [str(program)]
    except (OSError, subprocess.CalledProcessError) as exc:
        print(f"no figure for libmodbus: it takes gcc and libmodbus-dev ({exc})")
    return servers


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = {name: stack.enter_context(serving(c)) for name, c in commands(folder).items()}
        client = stack.enter_context(ProcessPoolExecutor(1))
        rates: dict[tuple[str, int], list[float]] = {(n, c): [] for n in ports for c in CONNECTIONS}
        for number in range(ROUNDS):
            for name, count in rates if number % 2 else reversed(rates):
                rates[name, count].append(client.submit(requests_per_second, ports[name], count).result())
    for (name, count), found in rates.items():
        figure(f"{name}, connections: {count}", median(found), "requests/s")
        if name != "plcsim":
            ratio = median(a / b for a, b in zip(rates["plcsim", count], found, strict=True))
            least = BOUNDS.get((name, count))
            bound = f">= {least:g}" if least else ""
            figure(f"plcsim / {name}, connections: {count}", ratio, "times", bound, ratio >= (least or 0))
    finish()


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.Runner(loop_factory=import_module(sys.argv[1]).new_event_loop).run(serve_pymodbus())
    main()
