"""One driver: a JVM with a folder of its own, remembered on disk so that a restarted dev node finds it again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import processes
from .addresses import listening
from .command import Command

# What kubelet reports for a container whose end it did not see.
UNKNOWN_EXIT = (137, "ContainerStatusUnknown")

# Of this process's environment a driver gets only this: a Pod knows nothing of the user's either.
INHERITED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")


@dataclass
class Record:
    app: str
    app_uid: str
    submission_id: str
    address: str
    log: str
    pid: int = 0
    start_time: str = ""
    # WAITING (for a Secret), SUBMITTING (spark-submit has not yet got as far as a SparkContext), RUNNING, ENDED
    phase: str = "WAITING"
    launched: float = 0.0
    waits_for: str = ""  # what its Pod says, where there is one before the process
    started: float = 0.0
    killed_at: float = 0.0


class Driver:
    def __init__(self, folder: Path, record: Record):
        self.folder = folder
        self.record = record
        self.child: subprocess.Popen | None = None  # also None for one that an earlier dev node started

    @classmethod
    def prepare(cls, folder: Path, record: Record) -> "Driver":
        """One whose process is still to be started."""
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "local").mkdir(parents=True)
        record.launched = time.time()
        driver = cls(folder, record)
        driver.save()
        return driver

    def start(self, command: Command) -> None:
        record = self.record
        env = {name: os.environ[name] for name in INHERITED if name in os.environ}
        log = Path(record.log)
        if log.exists():  # of an earlier instance with this name
            log.replace(log.with_suffix(".previous.log"))
        with open(record.log, "wb") as log:
            self.child = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**env, **command.env},
                cwd=self.folder,
                start_new_session=True,
            )
        record.pid = self.child.pid
        record.start_time = processes.start_time(record.pid) or "gone"
        record.started = time.time()
        record.phase = "SUBMITTING"
        self.save()

    @classmethod
    def load(cls, folder: Path) -> "Driver | None":
        try:
            return cls(folder, Record(**json.loads((folder / "driver.json").read_text())))
        except (OSError, ValueError, TypeError):
            return None

    def save(self) -> None:
        temporary = self.folder / "driver.json.new"
        temporary.write_text(json.dumps(asdict(self.record)))
        temporary.replace(self.folder / "driver.json")

    def alive(self) -> bool:
        if self.child:
            self.child.poll()
        return processes.start_time(self.record.pid) == self.record.start_time

    def accepted(self) -> bool:
        """spark-submit's own work is over once the SparkContext listens on the driver's address."""
        return listening(self.record.address) or time.time() - self.record.started > 60

    def exit(self) -> tuple[int, str]:
        """As a container reports it: 128 + n for a signal n."""
        code = self.child.wait() if self.child else None
        if code is None:
            return UNKNOWN_EXIT
        return (128 - code if code < 0 else code), ("Error" if code else "Completed")

    def end(self, grace: float) -> None:
        """Called again and again until the process is gone: SIGTERM at first, SIGKILL after `grace` seconds."""
        if not self.record.killed_at:
            self.record.killed_at = time.time()
            self.save()
            self._signal(signal.SIGTERM)
        elif time.time() - self.record.killed_at > grace:
            self._signal(signal.SIGKILL)

    def forget(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self, lines: int = 15) -> str:
        """Without the frames of stacks, in front of which stands what happened."""
        try:
            said = Path(self.record.log).read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join([line for line in said if not line.startswith("\tat ")][-lines:])

    def _signal(self, number: int) -> None:
        if self.alive():
            try:
                os.killpg(self.record.pid, number)
            except ProcessLookupError:
                pass
