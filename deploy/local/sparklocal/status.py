"""What runs, and `down`. Starts nothing."""

from __future__ import annotations

import shutil
import time
from typing import Callable

from . import control_plane, envoy, keycloak, ports, processes, session_operator
from .dev_node.driver import Driver
from .failure import Failure
from .services import NAMES, Services
from .settings import Settings


def rows(settings: Settings) -> list[tuple[str, str, str, str, str]]:
    services = Services(settings)
    table = []
    for name in reversed(_expected(settings)):
        process = services.running(name)
        health = "down" if not process else ("ok" if _HEALTH[name](settings) else "not ready")
        log = settings.logs / f"{name}.log"
        table.append((name, str(process.pid) if process else "-", health, _address(settings, name), str(log)))
    for driver in drivers(settings):
        health = "ok" if driver.alive() else "down"
        table.append((f"{driver.record.app}-driver", str(driver.record.pid), health, driver.record.address, driver.record.log))
    return table


def drivers(settings: Settings) -> list[Driver]:
    folders = sorted((settings.state / "drivers").glob("*"))
    return [driver for driver in map(Driver.load, folders) if driver]


def down(settings: Settings, purge: bool, kubectl: str | None) -> list[str]:
    """Stops everything, what could restart or rewrite something else first. Returns the names of what ran."""
    services = Services(settings)
    stopped = []
    for name in NAMES:
        if name == "dev-node" and kubectl and services.running("apiserver") and services.running("dev-node"):
            try:
                control_plane.Applier(settings, kubectl).delete_applications()
            except Failure:
                pass  # the drivers are ended below in any case
        if services.stop(name):
            stopped.append(name)
        if name == "dev-node":
            stopped += _end_drivers(settings)
    for pid_file in (settings.state / "pids").glob("archive-*.json"):
        processes.stop(pid_file)
    if purge:
        shutil.rmtree(settings.state)
    return stopped


def _end_drivers(settings: Settings) -> list[str]:
    ended = []
    for driver in drivers(settings):
        if driver.alive():
            ended.append(f"{driver.record.app}-driver")
            while driver.alive():
                driver.end(grace=5)
                time.sleep(0.1)
        driver.forget()
    return ended




def _expected(settings: Settings) -> list[str]:
    if settings.only in ("api", "envoy"):
        return ["controller-manager", "apiserver", "etcd"]
    if settings.only == "cluster":
        return ["dev-node", "controller-manager", "apiserver", "etcd"]
    return ["operator", "envoy", "keycloak"] if settings.context else NAMES


def _address(settings: Settings, name: str) -> str:
    port = {"operator": "operator-health", "envoy": "envoy", "keycloak": "keycloak", "apiserver": "apiserver", "etcd": "etcd"}
    return f"127.0.0.1:{settings.ports[port[name]]}" if name in port else "-"


def _listens(name: str) -> Callable[[Settings], bool]:
    return lambda settings: ports.answers(settings.ports[name])


_HEALTH: dict[str, Callable[[Settings], bool]] = {
    "etcd": _listens("etcd"),
    "apiserver": _listens("apiserver"),
    "controller-manager": lambda settings: True,
    "dev-node": lambda settings: True,
    "keycloak": keycloak.healthy,
    "envoy": lambda settings: envoy.healthy(settings) and ports.answers(settings.ports["envoy"]),
    "operator": session_operator.healthy,
}
