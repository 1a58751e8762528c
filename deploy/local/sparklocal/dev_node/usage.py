"""What drivers use of the machine, from /proc. Remembers nothing, and knows nothing of Kubernetes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    at: float  # seconds since the epoch
    cpu_seconds: float  # since the beginning
    memory_bytes: int


def samples(sessions: set[int]) -> dict[int, Sample]:
    """By session: a driver leads one, and what it starts belongs to it."""
    found: dict[int, Sample] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            # The second field is the command in parentheses and may itself hold spaces and parentheses.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # has ended meanwhile
        session = int(fields[3])
        if session in sessions:
            # Its own, and that of its children that have ended.
            ticks = sum(int(field) for field in fields[11:15])
            before = found.get(session, Sample(time.time(), 0, 0))
            memory = before.memory_bytes + int(fields[21]) * PAGE
            found[session] = Sample(before.at, before.cpu_seconds + ticks / TICKS, memory)
    return found
