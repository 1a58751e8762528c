"""The flags of up, down, status and env, and what --help says."""

from __future__ import annotations

import argparse

from .ports import DEFAULT_BASE, PORTS, env_name
from .settings import LOCAL, NAMESPACE, REPOSITORY

DEFAULT_STATE = REPOSITORY / "target" / "local"

UP = """\
Starts everything on this machine, as an ordinary user and on loopback only: etcd, kube-apiserver and
kube-controller-manager, Keycloak, Envoy, the operator, and two pools of Spark servers (Connect and Thrift) that start on
first use. It ends by running one query through each protocol as the user alice, and prints what to copy.

A second `up` leaves alone what is well, starts what died, and restarts the operator when its code changed.
The first run obtains and builds everything into ${XDG_CACHE_HOME:-~/.cache}/spark-session-operator, which takes minutes;
later ones take about half a minute.

There is no container runtime here. In the place of the Spark Operator and the kubelet stands a "dev node", which
starts each driver as a process on a loopback address of its own: `python3 -m sparklocal.dev_node --help` says what it
does not do. With --context the real ones take its place.

users     alice (group data-science), password alice-password; bob (group analysts), password bob-password
state     target/local: ports, logs, databases
"""

SPARK_3_5 = """\
Obtains Spark 3.5 (pip, Maven), once per machine, and prints its folder and its Python as export lines. The drivers of pools
whose template says `sparkVersion: 3.5.…` wait for it, as they would for an image that is being pulled.
"""

CONTEXT = """\
use the cluster of this kubeconfig context, which has the Spark Operator, instead of etcd, kube-apiserver and the dev node:
CRDs, RBAC and pools are applied there; the operator, Envoy and Keycloak run on this machine. The cluster's Pod addresses
must be reachable from this machine, since Envoy and the operator here connect to driver Pods."""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploy/local/")
    commands = parser.add_subparsers(dest="command", required=True)
    _up(_command(commands, "up", UP))
    down = _command(commands, "down", "Stops everything that `up` started, Spark's JVMs included. Keeps databases and logs.")
    down.add_argument("--purge", action="store_true", help="remove the state folder too; the cache stays")
    _command(commands, "status", "Shows each part's pid, health, address and log. Exit code 0 when all is well.")
    _command(commands, "spark-3.5", SPARK_3_5)
    _command(commands, "env", 'Prints export lines for a shell: eval "$(deploy/local/env)"')
    return parser.parse_args(argv)


def _command(commands, name: str, description: str) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, prog=f"deploy/local/{name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "--state", default=str(DEFAULT_STATE), metavar="DIR", help="where the environment keeps its state; default target/local"
    )
    return command


def _up(up: argparse.ArgumentParser) -> None:
    up.add_argument("--no-query", dest="query", action="store_false", help="do not run the two queries at the end")
    up.add_argument("--release", action=argparse.BooleanOptionalAction, help="build the operator with optimizations; remembered")
    up.add_argument(
        "--mtls", action=argparse.BooleanOptionalAction, help="mTLS between Envoy and the operator; default on; remembered"
    )
    up.add_argument("--pools", metavar="FILE", help=f"manifests of the pools; default {(LOCAL / 'pools.yaml').relative_to(REPOSITORY)}")
    up.add_argument("--context", metavar="NAME", help=CONTEXT)
    up.add_argument("--namespace", metavar="NAME", help=f"default {NAMESPACE}")
    up.add_argument(
        "--only",
        choices=["all", "api", "envoy", "cluster"],
        default="all",
        help="api: etcd, kube-apiserver, kube-controller-manager and the CRDs; envoy: these, and Envoy obtained but not started; "
        "cluster: api and the dev node; default all",
    )
    up.add_argument("--operator-arg", action="append", default=[], metavar="ARG", help="one more argument for the operator")
    ports = up.add_argument_group(
        "ports", f"Each can also be set by an environment variable, {env_name('envoy')} for --envoy-port and so on."
    )
    ports.add_argument("--port-base", type=int, metavar="N", help=f"the first of {len(PORTS)} ports in a row; default {DEFAULT_BASE}")
    ports.add_argument("--free-ports", action="store_true", help="choose a row of ports that nobody uses (at the first up)")
    for name, (offset, what) in PORTS.items():
        ports.add_argument(f"--{name}-port", type=int, metavar="N", help=f"{what}; default {DEFAULT_BASE + offset}")
