"""Runs commands that end (builds, kubectl), and waits for conditions. Long-running ones are in `processes`."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Callable

from .failure import Abandoned, Failure
from .processes import Process

_builds: set[subprocess.Popen] = set()
_builds_lock = threading.Lock()
_abandoned = threading.Event()


def build(argv: list[str], log: Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    """Runs a step of a build, its output appended to `log`. It ends with `abandon`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        output.write(f"$ {' '.join(argv)}\n".encode())
        output.flush()
        with _builds_lock:
            _go_on()
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
            _builds.add(child)
        code = child.wait()
        _builds.discard(child)
    _go_on()  # a build that was ended from here has not failed by itself
    if code:
        raise Failure(f"`{' '.join(argv)[:100]}` ended with exit code {code}", log)


def abandon() -> None:
    """Ends builds and waits that are still under way, so that a failure or Ctrl-C in one part does not wait for the others."""
    _abandoned.set()
    with _builds_lock:
        for child in list(_builds):
            try:
                os.killpg(child.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass


def _go_on() -> None:
    if _abandoned.is_set():
        raise Abandoned("given up, since another part failed")


def output_of(argv: list[str], stdin: str | None = None, env: dict[str, str] | None = None, timeout: float = 120) -> str:
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=timeout
    )
    if done.returncode:
        raise Failure(f"`{' '.join(argv)[:200]}` ended with exit code {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


def wait_for(what: str, test: Callable[[], bool], seconds: float, process: Process | None = None) -> None:
    """Waits until `test` holds; a process that ends meanwhile is an immediate failure."""
    deadline = time.monotonic() + seconds
    while not test():
        _go_on()
        if process and not process.alive():
            raise Failure(f"{process.name} ended before {what}", process.log)
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not after {seconds:.0f} s", process.log if process else None)
        time.sleep(0.1)


def http_ok(url: str, timeout: float = 2.0) -> bool:
    """True when a loopback address answers 200; never asks a proxy."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=timeout) as answer:
            return answer.status == 200
    except (OSError, ValueError):
        return False
