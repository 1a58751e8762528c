"""The exception that the user is meant to read."""

from __future__ import annotations

from pathlib import Path


class Failure(Exception):
    """Something did not work; `log` is the file that says why, `hint` what to do about it."""

    def __init__(self, message: str, log: Path | None = None, hint: str = ""):
        super().__init__(message)
        self.log = log
        self.hint = hint

    def render(self, lines: int = 25) -> str:
        text = [str(self)]
        if self.log and self.log.exists():
            tail = self.log.read_text(errors="replace").splitlines()[-lines:]
            text += [f"--- last lines of {self.log}", *tail, f"--- the whole log: {self.log}"]
        if self.hint:
            text.append(self.hint)
        return "\n".join(text)


class Abandoned(Failure):
    """Given up because another part failed: never the reason to tell."""
