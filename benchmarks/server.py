"""Requests/s of our Modbus server beside pymodbus' and libmodbus': 120 holding registers, one client.

The servers run at the same time, each in its process, and take turns under load, so that a disturbance
of the machine meets all of them; a figure is the median over the rounds of the ratio within a round.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter

from figures import figure, finish

REGISTERS = 120
ROUNDS = 9
SECONDS = 0.6
CONNECTIONS = (1, 3)
REQUEST = bytes((0, 7, 0, 0, 0, 6, 1, 3, 0, 0, 0, REGISTERS))
REPLY_START = bytes((0, 7, 0, 0, 0, 3 + 2 * REGISTERS, 1, 3, 2 * REGISTERS))
REPLY_BYTES = len(REPLY_START) + 2 * REGISTERS

DEVICE = "device: {device_id: benchmark}\ngroups:\n  - {name: a, table: holding_register, parameters: [\n" + (
    ",\n".join(
        f"    {{id: {i + 1}, component: a, name: p{i}, address: {2 * i}, type: float32,"
        " signal: {kind: noise, mean: 20, amplitude: 1}}"
        for i in range(REGISTERS // 2)
    )
    + "]}\n"
)

LIBMODBUS = """
#include <modbus.h>
#include <stdio.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <netinet/in.h>

int main(void) {
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", 0);
    modbus_mapping_t *map = modbus_mapping_new(0, 0, 120, 0);
    int listener = modbus_tcp_listen(ctx, 8);
    struct sockaddr_in at;
    socklen_t length = sizeof at;
    getsockname(listener, (struct sockaddr *)&at, &length);
    printf("127.0.0.1:%d\\n", ntohs(at.sin_port));
    fflush(stdout);
    fd_set all, ready;
    FD_ZERO(&all);
    FD_SET(listener, &all);
    for (int highest = listener;;) {
        ready = all;
        select(highest + 1, &ready, NULL, NULL, NULL);
        for (int fd = 0; fd <= highest; fd++) {
            uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
            if (!FD_ISSET(fd, &ready)) continue;
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                int on = 1;
                setsockopt(client, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on);
                FD_SET(client, &all);
                if (client > highest) highest = client;
                continue;
            }
            modbus_set_socket(ctx, fd);
            int got = modbus_receive(ctx, query);
            if (got > 0) modbus_reply(ctx, query, got, map);
            else if (got < 0) { modbus_close(ctx); FD_CLR(fd, &all); }
        }
    }
}
"""


async def serve_pymodbus() -> None:
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    registers = SimData(0, count=REGISTERS, values=17, datatype=DataType.REGISTERS)
    server = ModbusTcpServer(SimDevice(1, [registers]), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    print(f"127.0.0.1:{server.transport.sockets[0].getsockname()[1]}", flush=True)
    await server.serving


def requests_per_second(port: int, connections: int) -> float:
    """The client, in its own process: one request in flight on each connection.

    It never sleeps but asks for the reply again and again: what is measured is the server, not how fast
    the system wakes a client.
    """
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    for sock in sockets:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    done, start = 0, perf_counter()
    while (elapsed := perf_counter() - start) < SECONDS:
        for sock in sockets:
            sock.sendall(REQUEST)
        for sock in sockets:
            reply = _fetched(sock)
            if len(reply) != REPLY_BYTES or not reply.startswith(REPLY_START):
                raise RuntimeError(f"port {port} answered {reply.hex()}")
            done += 1
    for sock in sockets:
        sock.close()
    return done / elapsed


def _fetched(sock: socket.socket) -> bytes:
    while True:
        try:
            return sock.recv(REPLY_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue


@contextmanager
def serving(command: list[str]) -> Iterator[int]:
    """A server process that prints HOST:PORT in its first line; gives the port."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield int(line.partition("127.0.0.1:")[2].partition(",")[0])
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def commands(folder: Path) -> dict[str, list[str]]:
    """The servers that this machine can run."""
    device = folder / "device.yaml"
    device.write_text(DEVICE)
    servers = {
        "plcsim": [sys.executable, "-m", "plcsim", "run", str(device), "--port", "0"],
        "pymodbus": [sys.executable, __file__, "pymodbus"],
        "pymodbus on uvloop": [sys.executable, __file__, "pymodbus", "uvloop"],
    }
    source, program = folder / "server.c", folder / "server"
    source.write_text(LIBMODBUS)
    compiler = shutil.which("gcc") or "gcc"
    build = [compiler, "-O2", "-I/usr/include/modbus", str(source), "-lmodbus", "-o", str(program)]
    try:
        subprocess.run(build, check=True, capture_output=True)
        servers["libmodbus"] = [str(program)]
    except (OSError, subprocess.CalledProcessError) as exc:
        print(f"no figure for libmodbus: gcc and libmodbus-dev are needed ({exc})")
    return servers


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = {name: stack.enter_context(serving(c)) for name, c in commands(folder).items()}
        client = stack.enter_context(ProcessPoolExecutor(1))
        names = list(ports)
        rates: dict[tuple[str, int], list[float]] = {(n, c): [] for n in names for c in CONNECTIONS}
        for r in range(ROUNDS):
            for name in names[r % len(names) :] + names[: r % len(names)]:
                for count in CONNECTIONS:
                    rate = client.submit(requests_per_second, ports[name], count).result()
                    rates[name, count].append(rate)
    for (name, count), found in rates.items():
        figure(f"{name}, connections: {count}", statistics.median(found), "requests/s")
    for name, count in list(rates)[len(CONNECTIONS) :]:
        pairs = zip(rates["plcsim", count], rates[name, count], strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        bound = ">= 2" if (name, count) == ("pymodbus", 1) else ""
        figure(f"plcsim / {name}, connections: {count}", ratio, "times", bound, ratio >= 2)
    finish()


if __name__ == "__main__":
    if sys.argv[1:] == ["pymodbus", "uvloop"]:
        import uvloop

        uvloop.run(serve_pymodbus())
    elif sys.argv[1:] == ["pymodbus"]:
        asyncio.run(serve_pymodbus())
    else:
        main()
