"""Where everything lies and listens. Decides nothing about starting; knows no processes.

What a first `up` chose (ports, passwords, pools) is remembered in the state folder, so that `down`, `status`, `env` and
the next `up` need no flags.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from . import ports

NAMESPACE = "spark-dev"
REALM = "spark"
CLIENT_ID = "spark-session-operator"
SERVICE_ACCOUNT = "spark-session-operator"
REPOSITORY = Path(__file__).resolve().parents[3]
LOCAL = REPOSITORY / "deploy" / "local"


@dataclass
class Settings:
    state: Path
    ports: dict[str, int]
    context: str | None = None
    only: str = "all"
    pools: Path = LOCAL / "pools.yaml"
    namespace: str = NAMESPACE
    release: bool = False
    # Whether Envoy and the operator know each other by certificates.
    mtls: bool = True
    operator_args: list[str] = field(default_factory=list)
    passwords: dict[str, str] = field(default_factory=dict)
    # Random per environment: two environments' driver addresses then never meet, see dev_node/addresses.py.
    seed: str = ""

    @property
    def cache(self) -> Path:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return Path(base) / "spark-session-operator"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def admin_kubeconfig(self) -> Path:
        return self.state / "admin.kubeconfig"

    @property
    def operator_kubeconfig(self) -> Path:
        return self.state / "operator.kubeconfig"

    @property
    def issuer(self) -> str:
        # One spelling everywhere: the issuer in a token is the URL that the client asked.
        return f"http://127.0.0.1:{self.ports['keycloak']}/realms/{REALM}"

    @property
    def envoy_url(self) -> str:
        return f"http://localhost:{self.ports['envoy']}"

    def make_folders(self) -> None:
        for folder in (self.state, self.logs, self.state / "pids", self.state / "secrets", self.cache):
            folder.mkdir(parents=True, exist_ok=True)
        (self.state / "secrets").chmod(0o700)

    def secret(self, name: str) -> Path:
        """A file with a random secret, made when first asked for."""
        path = self.state / "secrets" / name
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))
        return path

    def save(self) -> None:
        document = {
            "ports": self.ports,
            "context": self.context,
            "only": self.only,
            "pools": str(self.pools),
            "namespace": self.namespace,
            "release": self.release,
            "mtls": self.mtls,
            "operator_args": self.operator_args,
            "passwords": self.passwords,
            "seed": self.seed,
        }
        (self.state / "environment.json").write_text(json.dumps(document, indent=2) + "\n")
        (self.state / "environment.json").chmod(0o600)


def remembered(state: Path) -> dict:
    path = state / "environment.json"
    return json.loads(path.read_text()) if path.exists() else {}


def load(state: Path) -> Settings | None:
    """The settings of the environment that `up` made there, or None."""
    old = remembered(state)
    if not old:
        return None
    return Settings(
        state=state,
        ports=old["ports"],
        context=old["context"],
        only=old["only"],
        pools=Path(old["pools"]),
        namespace=old["namespace"],
        release=old["release"],
        mtls=old.get("mtls", True),
        operator_args=old["operator_args"],
        passwords=old["passwords"],
        seed=old["seed"],
    )


def choose(args) -> Settings:
    """Settings for `up`: what the flags say over what the state folder remembers."""
    state = Path(args.state).resolve()
    old = remembered(state)
    single = {n: getattr(args, n.replace("-", "_") + "_port") for n in ports.PORTS}
    single = {n: p for n, p in single.items() if p is not None}
    return Settings(
        state=state,
        ports=ports.choose(args.port_base, single, old.get("ports", {}), args.free_ports),
        context=args.context or old.get("context"),
        only=args.only,
        pools=Path(args.pools or old.get("pools") or LOCAL / "pools.yaml").resolve(),
        namespace=args.namespace or old.get("namespace", NAMESPACE),
        release=old.get("release", False) if args.release is None else args.release,
        mtls=old.get("mtls", True) if args.mtls is None else args.mtls,
        operator_args=args.operator_arg or old.get("operator_args", []),
        # Fixed, so that what a person copies from the README works; everything listens on loopback only.
        passwords=old.get("passwords") or {"alice": "alice-password", "bob": "bob-password"},
        seed=old.get("seed") or hashlib.sha256(secrets.token_bytes(16)).hexdigest(),
    )
