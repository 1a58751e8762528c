"""Tells how far `up` is: one line per part, rewritten in place on a terminal, only final states elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time

from .failure import Abandoned


class Progress:
    def __init__(self, stream=sys.stderr):
        self.stream = stream
        self.live = stream.isatty()
        self.running: dict[str, float] = {}
        self.lock = threading.Lock()
        self.began = time.monotonic()

    @contextlib.contextmanager
    def step(self, name: str):
        """Times one step. The body may set `.outcome` to say more than "done"."""
        step = _Step()
        started = time.monotonic()
        with self.lock:
            self.running[name] = started
            self._redraw()
        try:
            yield step
        except Abandoned:
            self._finish(name, "given up", started)
            raise
        except BaseException:
            self._finish(name, "FAILED", started)
            raise
        self._finish(name, step.outcome, started)

    def note(self, text: str) -> None:
        with self.lock:
            self._clear()
            self.stream.write(text + "\n")
            self._redraw()

    def total(self) -> float:
        return time.monotonic() - self.began

    def _finish(self, name: str, outcome: str, started: float) -> None:
        with self.lock:
            self.running.pop(name, None)
            self._clear()
            self.stream.write(f"  {name:<28} {outcome:<24} {time.monotonic() - started:6.1f} s\n")
            self._redraw()

    def _clear(self) -> None:
        if self.live:
            self.stream.write("\r\033[K")

    def _redraw(self) -> None:
        if self.live and self.running:
            names = ", ".join(self.running)
            self.stream.write(f"\r\033[K  … {names[:70]}")
        self.stream.flush()


class _Step:
    outcome = "done"
