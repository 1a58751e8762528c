"""Times new sessions of PySpark on a Spark Connect server that runs, with three keys of configuration to set.

Started by benches/run after benches/cold_start.py, which leaves the server, with the variables of `deploy/local/env` set.
The operator's time, from the login of the first call to its release, is that of its own log; the user's is that of
PySpark until it has read a key back.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import time
from pathlib import Path

from pyspark.sql import SparkSession

CONF = {
    "spark.sql.shuffle.partitions": "7",
    "spark.sql.session.timeZone": "Asia/Kolkata",
    "spark.sql.ansi.enabled": "false",
}
GOAL = 50


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sessions", type=int, default=20)
    arguments.add_argument("--log", type=Path, required=True)
    chosen = arguments.parse_args()
    patch = json.dumps({"spec": {"sessionPolicy": {"defaultSessionConf": CONF}}})
    namespace = os.environ.get("SPARK_NAMESPACE", "spark-dev")
    command = ["kubectl", "-n", namespace, "patch", "sparksessionpool", "connect", "--type=merge", "-p", patch]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    # The first one makes the client's connection, and finds the server after its rest.
    new_session()
    begin = chosen.log.stat().st_size
    users = [new_session() for _ in range(chosen.sessions)]
    with chosen.log.open(encoding="utf-8") as file:
        file.seek(begin)
        held = [float(ms) for ms in re.findall(r"request released.*held_ms=(\d+)", file.read())]
    if len(held) != len(users):
        raise SystemExit(f"new_session: {len(held)} requests were released for {len(users)} sessions")
    print(f"\nnew session on a warm Spark Connect server, {len(CONF)} keys of conf ({len(users)} sessions)   p50      max   [ms]")
    show("login to release", held)
    show("PySpark, until a key is read", users)
    print(f"  goal: p50 < {GOAL} ms {'reached' if median(held) < GOAL else 'MISSED'}")


def new_session() -> float:
    """In milliseconds."""
    begin = time.perf_counter()
    session = SparkSession.builder.remote(os.environ["SPARK_REMOTE"]).create()
    try:
        value = session.conf.get("spark.sql.shuffle.partitions")
        took = (time.perf_counter() - begin) * 1000
    finally:
        session.stop()
    if value != CONF["spark.sql.shuffle.partitions"]:
        raise SystemExit(f"new_session: the session was used before it had its configuration: {value}")
    return took


def median(values: list[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]


def show(title: str, values: list[float]) -> None:
    print(f"  {title:<69} {median(values):9.1f} {max(values):8.1f}")


if __name__ == "__main__":
    main()
