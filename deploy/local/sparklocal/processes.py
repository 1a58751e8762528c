"""Starts and stops processes by pid file. Knows nothing of what they are.

A pid file holds the pid together with the process's start time, so that a pid which the kernel gave to somebody else
is never signalled. Each process leads a session of its own, so that stopping it stops its children too.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Process:
    name: str
    pid: int
    start_time: str
    fingerprint: str
    log: Path
    pid_file: Path

    def alive(self) -> bool:
        return start_time(self.pid) == self.start_time


def start_time(pid: int) -> str | None:
    """When the process began, in clock ticks since boot; None for one that is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the command in parentheses and may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def read(pid_file: Path) -> Process | None:
    try:
        data = json.loads(pid_file.read_text())
        return Process(pid_file.stem, data["pid"], data["start_time"], data["fingerprint"], Path(data["log"]), pid_file)
    except (OSError, ValueError, KeyError):
        return None


def running(pid_file: Path) -> Process | None:
    process = read(pid_file)
    return process if process and process.alive() else None


def fingerprint(argv: list[str], env: dict[str, str], files: list[Path] = ()) -> str:
    """Changes when the command, its own environment or one of the files changes: then a restart is due."""
    digest = hashlib.sha256(json.dumps([argv, sorted(env.items())]).encode())
    for file in files:
        stat = file.stat()
        digest.update(f"{file} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def start(
    pid_file: Path, argv: list[str], log: Path, env: dict[str, str] | None = None, cwd: Path | None = None, mark: str = ""
) -> Process:
    """Starts a process. `env` comes on top of this process's own. The previous log is kept as `.previous`."""
    if log.exists():
        log.replace(log.with_suffix(".previous" + log.suffix))
    with open(log, "wb") as output:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
    began = start_time(child.pid) or "gone"
    document = {"pid": child.pid, "start_time": began, "fingerprint": mark, "log": str(log)}
    temporary = pid_file.with_suffix(".new")
    temporary.write_text(json.dumps(document))
    temporary.replace(pid_file)
    return Process(pid_file.stem, child.pid, began, mark, log, pid_file)


def stop(pid_file: Path, grace: float = 10.0) -> bool:
    """SIGTERM to the whole group, SIGKILL after `grace` seconds. True if something was running."""
    process = running(pid_file)
    if process:
        _signal_group(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while process.alive() and time.monotonic() < deadline:
            _reap(process.pid)
            time.sleep(0.05)
        _signal_group(process.pid, signal.SIGKILL)
        while process.alive():
            _reap(process.pid)
            time.sleep(0.02)
    pid_file.unlink(missing_ok=True)
    return process is not None


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _reap(pid: int) -> None:
    """Collects the exit of a child of ours; a child of somebody else is theirs to collect."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
