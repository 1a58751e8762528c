"""The environment's long-running processes, by name: started when they do not run, or run with something outdated."""

from __future__ import annotations

from pathlib import Path

from . import ports, processes
from .processes import Process
from .settings import Settings

# In the order in which they are stopped: what would react to another's end goes first.
NAMES = ["operator", "envoy", "keycloak", "dev-node", "controller-manager", "apiserver", "etcd"]


class Services:
    def __init__(self, settings: Settings):
        self.settings = settings
        self.started: set[str] = set()

    def pid_file(self, name: str) -> Path:
        return self.settings.state / "pids" / f"{name}.json"

    def running(self, name: str) -> Process | None:
        return processes.running(self.pid_file(name))

    def ensure(
        self,
        name: str,
        argv: list[str],
        port_names: list[str] = (),
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        files: list[Path] = (),
    ) -> Process:
        """Leaves a process alone that runs with this command, environment and these files; else (re)starts it."""
        mark = processes.fingerprint(argv, env or {}, files)
        process = self.running(name)
        if process and process.fingerprint == mark:
            return process
        if process:
            self.stop(name)
        for port_name in port_names:
            ports.require_free(port_name, self.settings.ports[port_name])
        self.started.add(name)
        return processes.start(self.pid_file(name), argv, self.settings.logs / f"{name}.log", env, cwd, mark)

    def stop(self, name: str) -> bool:
        return processes.stop(self.pid_file(name), grace=20)

    def outcome(self, name: str) -> str:
        return "started" if name in self.started else "was running"
