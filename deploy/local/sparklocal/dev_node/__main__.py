"""Command line of the dev node; `deploy/local/up` starts it."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from .. import dev_node
from ..kube_api import KubeApi
from . import kubelet
from .command import CONNECT, THRIFT, Installation
from .metrics import Metrics
from .node import Node


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="dev_node", description=dev_node.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder for drivers/ and logs/")
    parser.add_argument("--seed", required=True, help="hexadecimal; gives the environment its loopback network")
    parser.add_argument("--spark-home", type=Path, required=True)
    parser.add_argument(
        "--other-spark-home", action="append", default=[], metavar="VERSION=DIR", help="for applications whose sparkVersion starts so"
    )
    parser.add_argument("--java-home", type=Path, required=True)
    parser.add_argument("--python", type=Path, required=True, help="interpreter of Spark's Python workers")
    parser.add_argument("--pod-address-library", type=Path, required=True)
    parser.add_argument("--kubelet-port", type=int, required=True, help="where kube-apiserver asks for logs and metrics")
    parser.add_argument("--connect-archive", type=Path, help="class-data-sharing archive of the Connect server")
    parser.add_argument("--thrift-archive", type=Path, help="class-data-sharing archive of the Thrift server")
    parser.add_argument(
        "--master", default=os.environ.get("DEV_NODE_MASTER", "local[1]"), help="Spark master of every driver; default %(default)s"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    archives = {CONNECT: args.connect_archive, THRIFT: args.thrift_archive}
    installation = Installation(
        spark_home=args.spark_home,
        other_spark_homes={version: Path(folder) for version, _, folder in (it.partition("=") for it in args.other_spark_home)},
        java_home=args.java_home,
        python=args.python,
        pod_address_library=args.pod_address_library,
        master=args.master,
        archives={main_class: path for main_class, path in archives.items() if path},
    )
    node = Node(KubeApi(args.kubeconfig), args.namespace, args.state, args.seed, installation, args.kubelet_port)
    figures = Metrics(node.sessions, node.pods.snapshot)
    figures.start()
    kubelet.serve(args.kubelet_port, args.state, args.state / "logs", figures)
    node.run()


if __name__ == "__main__":
    main()
