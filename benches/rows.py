"""Times how JDBC and Python clients read rows from a Thrift Server: directly, through an Envoy that only passes requests
on, and through ours.

Started by benches/run, with the variables of `deploy/local/env` set and the release build of the operator running. All
ways lead to the same server and are taken in turn. A line's figures are medians of one run; compare no others.

hive-jdbc asks for the operation's state before every row, on one connection. PyHive and impyla open a connection a
request, and fetch many rows with each.
"""

from __future__ import annotations

import argparse
import base64
import os
import socket
import string
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

BENCHES = Path(__file__).resolve().parent
PATH = "cliservice"
THRIFT_PORT = 10001  # of Thrift pools without a port of their own
GOAL = 1.5

Reader = Callable[[int], None]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    arguments.add_argument(
        "--real-time",
        action="store_true",
        help="schedule what is measured before all else on this machine (SCHED_RR; needs root)",
    )
    chosen = arguments.parse_args()
    user, password = os.environ["SPARK_USER_NAME"], os.environ["SPARK_USER_PASSWORD"]
    gateway = ("localhost", int(os.environ["JDBC_URL"].split("/")[2].rpartition(":")[2]))
    # It starts the server, and keeps the session for the whole run.
    held = pyhive(gateway, user, password)
    server = (driver_address(), THRIFT_PORT)
    plain = ("127.0.0.1", free_port())
    envoy = start_plain_envoy(plain[1], server)
    try:
        if chosen.real_time:
            prefer([os.getpid(), envoy.pid, *parts_of_the_environment()])
        ways = {"direct": server, "plain Envoy": plain, "ours": gateway}
        print(f"\nreading rows [ms], medians of {chosen.rounds}{' (real-time scheduling)' if chosen.real_time else ''}")
        print(f"{'':33}{'direct':>9} {'plain Envoy':>18} {'ours':>18}   goal: ≤ {GOAL} × direct")
        show("hive-jdbc", hive_jdbc(ways, user, password, chosen.rows, chosen.rounds))
        for name, connect in (("PyHive", pyhive), ("impyla", impyla)):
            readers = {way: connect(address, user, password) for way, address in ways.items()}
            show(name, in_turn(readers, chosen.rows, chosen.rounds))
        held(1)
    finally:
        envoy.terminate()
        envoy.wait()


def hive_jdbc(
    ways: dict[str, tuple[str, int]], user: str, password: str, sizes: list[int], rounds: int
) -> dict[int, dict[str, list[float]]]:
    command = [f"{os.environ['JAVA_HOME']}/bin/java", "-cp", f"{os.environ['SPARK_HOME']}/jars/*"]
    command += [str(BENCHES / "Rows.java"), str(rounds), ",".join(map(str, sizes)), user, password]
    for way, (host, port) in ways.items():
        command += [way.replace(" ", "-"), f"jdbc:hive2://{host}:{port}/default;transportMode=http;httpPath={PATH}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"rows: hive-jdbc failed:\n{done.stderr[-3000:]}")
    times: dict[int, dict[str, list[float]]] = {rows: {way: [] for way in ways} for rows in sizes}
    for line in done.stdout.splitlines():
        way, rows, took = line.split()
        times[int(rows)][way.replace("-", " ")].append(float(took))
    return times


def pyhive(address: tuple[str, int], user: str, password: str) -> Reader:
    from pyhive import hive
    from thrift.transport import THttpClient

    transport = THttpClient.THttpClient(f"http://{address[0]}:{address[1]}/{PATH}")
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    transport.setCustomHeaders({"Authorization": f"Basic {login}"})
    return reader(hive.connect(thrift_transport=transport))


def impyla(address: tuple[str, int], user: str, password: str) -> Reader:
    sys.path.insert(0, os.environ["IMPYLA"])
    from impala import dbapi

    login = {"auth_mechanism": "PLAIN", "user": user, "password": password}
    host, port = address
    return reader(dbapi.connect(host=host, port=port, use_http_transport=True, http_path=PATH, **login))


def reader(connection) -> Reader:
    """Everything that DB-API connections have in common."""

    def read(rows: int) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SELECT id FROM range({rows})")
        got = len(cursor.fetchall())
        cursor.close()
        if got != rows:
            raise SystemExit(f"rows: {got} of {rows} rows")

    return read


def in_turn(readers: dict[str, Reader], sizes: list[int], rounds: int) -> dict[int, dict[str, list[float]]]:
    """The first round warms up and does not count."""
    times: dict[int, dict[str, list[float]]] = {}
    ways = list(readers)
    for rows in sizes:
        times[rows] = {way: [] for way in ways}
        for number in range(rounds + 1):
            for turn in range(len(ways)):
                way = ways[(turn + number) % len(ways)]
                begin = time.perf_counter()
                readers[way](rows)
                if number:
                    times[rows][way].append((time.perf_counter() - begin) * 1000)
    return times


def show(client: str, times: dict[int, dict[str, list[float]]]) -> None:
    for rows, ways in times.items():
        direct, plain, ours = (median(ways[way]) for way in ("direct", "plain Envoy", "ours"))
        verdict = "reached" if ours <= GOAL * direct else "MISSED"
        line = f"  {client + ',':<12}{rows:>12,} rows {direct:12.0f} {plain:10.0f} ({plain / direct:.2f} ×)"
        print(f"{line} {ours:9.0f} ({ours / direct:.2f} ×)   {verdict}", flush=True)


def median(values: list[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]


def driver_address() -> str:
    namespace = os.environ.get("SPARK_NAMESPACE", "spark-dev")
    path = '{.items[?(@.status.phase=="Running")].status.podIP}'
    command = [os.environ.get("KUBECTL", "kubectl"), "-n", namespace, "get", "pods", "-o", f"jsonpath={path}"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    for address in found:
        with socket.socket() as probe:
            if probe.connect_ex((address, THRIFT_PORT)) == 0:
                return address
    raise SystemExit(f"rows: none of the Pods {found} listens on port {THRIFT_PORT}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_plain_envoy(port: int, server: tuple[str, int]) -> subprocess.Popen:
    template = string.Template((BENCHES / "plain-envoy.yaml").read_text())
    config = template.substitute(PORT=port, SPARK_HOST=server[0], SPARK_PORT=server[1])
    command = [os.environ["ENVOY_BINARY"], "--config-yaml", config, "--concurrency", "2", "--log-level", "error"]
    envoy = subprocess.Popen([*command, "--disable-hot-restart"])
    end = time.monotonic() + 30
    while time.monotonic() < end and envoy.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return envoy
        time.sleep(0.1)
    envoy.kill()
    raise SystemExit("rows: the plain Envoy does not listen")


def parts_of_the_environment() -> list[int]:
    """The operator, Envoy and the drivers: their command lines name the folder of the environment's state."""
    state = os.environ["SPARK_LOCAL_STATE"].encode()
    lines = {int(path.parent.name): path for path in Path("/proc").glob("[0-9]*/cmdline")}
    return [pid for pid, path in lines.items() if state in read_or_nothing(path)]


def read_or_nothing(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


def prefer(pids: list[int]) -> None:
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(10))


if __name__ == "__main__":
    main()
