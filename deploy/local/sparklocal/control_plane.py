"""etcd, kube-apiserver, kube-controller-manager, and what is applied to the API. No scheduler, no kubelet, no cluster DNS.

With `--context` an existing cluster takes the place of the three processes, and only the applying is done here.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from . import commands, ports
from .failure import Failure
from .services import Services
from .settings import REPOSITORY, SERVICE_ACCOUNT, Settings

CONTROLLERS = "garbage-collector-controller,namespace-controller,serviceaccount-controller,pod-garbage-collector-controller"


def start(settings: Settings, services: Services, binaries: Path) -> None:
    folder = settings.state / "kubernetes"
    folder.mkdir(exist_ok=True)
    _start_etcd(settings, services, binaries, folder)
    _start_apiserver(settings, services, binaries, folder)
    _write_kubeconfig(settings, folder)
    services.ensure(
        "controller-manager",
        [
            str(binaries / "kube-controller-manager"),
            f"--kubeconfig={settings.admin_kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--controllers={CONTROLLERS}",
        ],
    )


def _start_etcd(settings: Settings, services: Services, binaries: Path, folder: Path) -> None:
    client = f"http://127.0.0.1:{settings.ports['etcd']}"
    peer = f"http://127.0.0.1:{settings.ports['etcd-peer']}"
    etcd = services.ensure(
        "etcd",
        [
            str(binaries / "server"),
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # A development database may lose its last second; in return it does not wait for the disk.
            "--unsafe-no-fsync",
        ],
        ["etcd", "etcd-peer"],
    )
    commands.wait_for("etcd answers", lambda: commands.http_ok(f"{client}/health"), 60, etcd)


def _start_apiserver(settings: Settings, services: Services, binaries: Path, folder: Path) -> None:
    port = settings.ports["apiserver"]
    key = folder / "sa.key"
    if not key.exists():
        commands.output_of(["openssl", "genrsa", "-out", str(key), "2048"])
    tokens = folder / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text(f'{settings.secret("admin-token").read_text()},admin,admin,"system:masters"\n')
    apiserver = services.ensure(
        "apiserver",
        [
            str(binaries / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{settings.ports['etcd']}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={folder}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            # It would mount a token into every Pod, and no kubelet is there to do so.
            "--disable-admission-plugins=ServiceAccount",
        ],
        ["apiserver"],
    )
    commands.wait_for("kube-apiserver answers", lambda: ports.answers(port), 60, apiserver)


def _write_kubeconfig(settings: Settings, folder: Path) -> None:
    authority = base64.b64encode((folder / "apiserver.crt").read_bytes()).decode()
    cluster = {"server": f"https://127.0.0.1:{settings.ports['apiserver']}", "certificate-authority-data": authority}
    user = {"token": settings.secret("admin-token").read_text()}
    write_kubeconfig(settings.admin_kubeconfig, cluster, user, settings.namespace)


def write_kubeconfig(path: Path, cluster: dict, user: dict, namespace: str) -> None:
    """As JSON, which is YAML too, since Python's standard library reads no YAML."""
    name = "spark-local"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        "current-context": name,
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=1) + "\n")


def use_context(settings: Settings, kubectl: str) -> None:
    """Copies one context of the user's kubeconfig, certificates included."""
    view = ["config", "view", "--raw", "--minify", "--flatten", "--context", settings.context, "-o", "json"]
    document = json.loads(commands.output_of([kubectl, *view]))
    settings.admin_kubeconfig.touch(mode=0o600)
    settings.admin_kubeconfig.write_text(json.dumps(document))


class Applier:
    """kubectl as admin."""

    def __init__(self, settings: Settings, kubectl: str):
        self.settings = settings
        self.kubectl_binary = kubectl

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        return commands.output_of([self.kubectl_binary, f"--kubeconfig={self.settings.admin_kubeconfig}", *args], stdin)

    def ready(self) -> bool:
        try:
            return self.kubectl("get", "--raw", "/readyz").strip() == "ok"
        except Failure:
            return False

    def apply_definitions(self, spark_application: Path | None) -> None:
        """The namespace and the CRDs, waited for until the API serves them."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.settings.namespace}}
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(namespace))
        own = REPOSITORY / "crds"
        if not list(own.glob("*.yaml")):
            raise Failure(f"no CRDs in {own}")
        sources = [str(own)] + ([str(spark_application)] if spark_application else [])
        files = [flag for source in sources for flag in ("-f", source)]
        # Server-side: the Spark Operator's CRD is larger than the annotation that a client-side apply writes.
        self.kubectl("apply", "--server-side", "--force-conflicts", *files)
        definitions = json.loads(self.kubectl("get", *files, "-o", "json"))
        definitions = definitions.get("items", [definitions])
        definitions = [each for each in definitions if each["kind"] == "CustomResourceDefinition"]
        commands.wait_for("the API serves the CRDs", lambda: all(map(self._served, definitions)), 60)

    def _served(self, definition: dict) -> bool:
        """Asks for the objects: the condition Established comes somewhat before the API really serves a kind."""
        spec = definition["spec"]
        paths = [f"/apis/{spec['group']}/{v['name']}/{spec['names']['plural']}" for v in spec["versions"] if v["served"]]
        try:
            return all(self.kubectl("get", "--raw", f"{path}?limit=1") for path in paths)
        except Failure:
            return False

    def apply_rights(self) -> None:
        """The operator's ServiceAccount with the rights it has in production, and a kubeconfig that uses it."""
        namespace = self.settings.namespace
        self.kubectl("apply", "--server-side", "--force-conflicts", "-n", namespace, "-f", str(REPOSITORY / "deploy" / "rbac.yaml"))
        if self._operator_logs_in():
            return  # a new token would restart the operator
        token = self.kubectl("create", "token", SERVICE_ACCOUNT, "-n", namespace, "--duration=720h").strip()
        admin = json.loads(self.settings.admin_kubeconfig.read_text())
        cluster = admin["clusters"][0]["cluster"]
        write_kubeconfig(self.settings.operator_kubeconfig, cluster, {"token": token}, namespace)

    def _operator_logs_in(self) -> bool:
        kubeconfig = self.settings.operator_kubeconfig
        try:
            commands.output_of([self.kubectl_binary, f"--kubeconfig={kubeconfig}", "auth", "whoami"])
        except Failure:
            return False
        return True

    def apply_pools(self) -> None:
        self.kubectl("apply", "--server-side", "--force-conflicts", "-n", self.settings.namespace, "-f", str(self.settings.pools))

    def delete_applications(self) -> None:
        """Drivers do not outlive `down`, so the objects that say they run go first."""
        self.kubectl(
            "delete", "sparkapplications.sparkoperator.k8s.io", "--all", "-n", self.settings.namespace, "--timeout=20s"
        )
