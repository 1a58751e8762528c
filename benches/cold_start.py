"""Times the phases of a cold start, from the operator's own log, for both protocols with their real clients.

Started by benches/run, with the variables of `deploy/local/env` set. It does not measure the client's own start.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

# What ends each phase: a line of the log.
PHASES = [
    ("session created", "check received → session created"),
    ("SparkApplication created", "→ SparkApplication created"),
    ("driver Pod has an address", "→ Pod has an address"),
    ("Envoy acknowledged a cluster", "→ Envoy has acknowledged it"),
    ("server answers", "→ port answers"),
    ("request released", "→ request released"),
]

QUERY = "from pyspark.sql import SparkSession as S; print(S.builder.getOrCreate().sql('SELECT 1').collect())"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--starts", type=int, default=3)
    arguments.add_argument("--log", type=Path, required=True)
    chosen = arguments.parse_args()
    clients = {
        "connect": [os.environ["PYTHON"], "-c", QUERY],
        "thrift": [
            *(os.environ["BEELINE"], "--silent=true", "-u", os.environ["JDBC_URL"]),
            *("-n", os.environ["SPARK_USER_NAME"], "-p", os.environ["SPARK_USER_PASSWORD"], "-e", "SELECT 1"),
        ],
    }
    for pool, client in clients.items():
        starts = [cold_start(pool, client, chosen.log) for _ in range(chosen.starts)]
        print(f"\ncold start, {pool} ({len(starts)} starts)            min   median      max   [ms]")
        for row, (_, title) in enumerate(PHASES):
            show(title, [start[row] for start in starts])
        show("total", [sum(start) for start in starts])
    return 0


def show(title: str, values: list[float]) -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"  {title:<36} {low:9.1f} {middle:8.1f} {high:8.1f}")


def cold_start(pool: str, client: list[str], log: Path) -> list[float]:
    kubectl("delete", "sparkinteractivesessions", "--all")
    kubectl("delete", "sparkapplications", "--all", "--wait")
    kubectl("wait", "--for=delete", "pods", "--all", "--timeout=60s")
    kubectl("wait", f"sparksessionpool/{pool}", "--for=jsonpath={.status.currentReplicas}=0", "--timeout=60s")
    begin = log.stat().st_size
    subprocess.run(client, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300)
    with log.open(encoding="utf-8") as file:
        file.seek(begin)
        lines = file.read().splitlines()
    released = first(lines, "request released")
    held = float(re.search(r"held_ms=(\d+)", released).group(1))
    times = [time_of(first(lines, marker)) for marker, _ in PHASES]
    received = time_of(released) - held
    return [end - start for start, end in zip([received, *times], times, strict=False)]


def first(lines: list[str], marker: str) -> str:
    for line in lines:
        if marker in line:
            return line
    sys.exit(f"cold_start: the operator's log has no line with '{marker}'")


def time_of(line: str) -> float:
    """In milliseconds."""
    stamp = re.search(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line).group(0)
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() * 1000


def kubectl(*arguments: str) -> None:
    command = ["kubectl", "-n", os.environ.get("SPARK_NAMESPACE", "spark-dev"), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


if __name__ == "__main__":
    sys.exit(main())
