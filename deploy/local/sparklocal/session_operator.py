"""The operator, as the user of its own ServiceAccount."""

from __future__ import annotations

from pathlib import Path

from . import commands, control_channel
from .services import Services
from .settings import CLIENT_ID, Settings


def start(settings: Settings, services: Services, binary: Path, identity_jar: Path) -> None:
    def address(name: str) -> str:
        return f"127.0.0.1:{settings.ports[name]}"

    identity_flags = []
    if not settings.context:  # drivers elsewhere do not reach this machine's loopback
        identity_flags += ["--identity-jar", str(identity_jar), "--identity-jar-addr", address("identity-jar")]
        identity_flags += ["--identity-jar-url", f"http://{address('identity-jar')}/{identity_jar.name}"]
    process = services.ensure(
        "operator",
        [
            str(binary),
            "run",
            *("--namespace", settings.namespace),
            *("--grpc-addr", address("operator-grpc")),
            *(control_channel.operator_flags(settings) if settings.mtls else []),
            *("--envoy-listen-addr", address("envoy")),
            *("--envoy-tls-listen-addr", address("envoy-tls")),
            *("--health-probe-bind-address", address("operator-health")),
            *("--metrics-bind-address", address("operator-metrics")),
            *identity_flags,
            *("--oidc-issuer-url", settings.issuer),
            *("--oidc-client-id", CLIENT_ID),
            *("--oidc-client-secret-file", str(settings.secret("oidc-client-secret"))),
            *("--oidc-audience", CLIENT_ID),
            *("--oidc-user-claim", "preferred_username"),
            *("--oidc-groups-claim", "groups"),
            *("--log-format", "text"),
            *settings.operator_args,
        ],
        ["operator-grpc", "operator-health", "operator-metrics", "identity-jar"],
        env={"KUBECONFIG": str(settings.operator_kubeconfig)},
        files=[binary, settings.operator_kubeconfig],
    )
    commands.wait_for("the operator is ready", lambda: healthy(settings), 60, process)


def healthy(settings: Settings) -> bool:
    return commands.http_ok(f"http://127.0.0.1:{settings.ports['operator-health']}/readyz")
