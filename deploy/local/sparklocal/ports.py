"""Which port each part listens on, and whether it is free. Everything binds 127.0.0.1."""

from __future__ import annotations

import os
import random
import socket

from .failure import Failure

DEFAULT_BASE = 16000

# name -> (offset from the base, what listens there)
PORTS = {
    "envoy": (0, "Envoy: what PySpark and JDBC connect to"),
    "envoy-admin": (1, "Envoy's admin interface"),
    "keycloak": (2, "Keycloak"),
    "operator-grpc": (3, "the operator's xDS and ext_authz"),
    "operator-health": (4, "the operator's /healthz and /readyz"),
    "operator-metrics": (5, "the operator's /metrics"),
    "operator-rest": (6, "the operator's REST API and web page"),
    "apiserver": (7, "kube-apiserver"),
    "etcd": (8, "etcd"),
    "etcd-peer": (9, "etcd's peers"),
    "envoy-tls": (10, "Envoy with TLS, for pools with spec.tls"),
    "kubelet": (12, "the dev node, for kubectl logs and kubectl top"),
    "identity-jar": (11, "the operator's copy of the jar that Connect servers load"),
}


def choose(base: int | None, single: dict[str, int], remembered: dict[str, int], free: bool) -> dict[str, int]:
    """Flags go before the environment, that before what the state folder remembers, that before the default."""
    if free and base is None and not remembered:
        base = find_free_block()
    if base is None and os.environ.get("SPARKLOCAL_PORT_BASE"):
        base = int(os.environ["SPARKLOCAL_PORT_BASE"])
    ports = {}
    for name, (offset, _) in PORTS.items():
        from_env = os.environ.get(env_name(name))
        if name in single:
            ports[name] = single[name]
        elif from_env:
            ports[name] = int(from_env)
        elif base is not None:
            ports[name] = base + offset
        else:
            ports[name] = remembered.get(name, DEFAULT_BASE + offset)
    twice = {p for p in ports.values() if list(ports.values()).count(p) > 1}
    if twice:
        raise Failure(f"two parts would listen on the same port: {sorted(twice)}; see the --…-port flags")
    return ports


def env_name(name: str) -> str:
    return f"SPARKLOCAL_{name.replace('-', '_').upper()}_PORT"


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def answers(port: int, address: str = "127.0.0.1", timeout: float = 1.0) -> bool:
    try:
        with socket.create_connection((address, port), timeout):
            return True
    except OSError:
        return False


def require_free(name: str, port: int) -> None:
    if not is_free(port):
        raise Failure(
            f"port {port}, meant for {PORTS[name][1]}, is taken",
            hint=f"Choose another with --{name}-port N (or {env_name(name)}=N), or move all with --port-base N.",
        )


def find_free_block() -> int:
    """A base whose ports are all free, below those of the tests with Envoy alone, which are below the range from which
    the kernel picks ports for outgoing connections."""
    for _ in range(200):
        base = random.randrange(17000, 20000 - len(PORTS), len(PORTS))
        if all(is_free(base + offset) for offset, _ in PORTS.values()):
            return base
    raise Failure("no block of free ports found between 17000 and 20000")
