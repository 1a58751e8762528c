"""The certificates with which Envoy and the operator know each other: made once per environment, by openssl."""

from __future__ import annotations

from pathlib import Path

from . import commands
from .settings import REPOSITORY, Settings

OPERATOR_NAME = "spark-session-operator"
SDS_FILES = ("sds-certificate.yaml", "sds-ca.yaml")


def operator_flags(settings: Settings) -> list[str]:
    """The operator's flags for mTLS, with the certificates made."""
    if not (folder(settings, "envoy") / "tls.crt").exists():
        # As long as the CA: nobody renews them here.
        make = ["env", "DAYS=3650", str(REPOSITORY / "envoy" / "make-certificates")]
        commands.output_of([*make, str(settings.state / "control-channel"), OPERATOR_NAME])
    files = folder(settings, "operator")
    flags = {"--grpc-tls-cert-file": "tls.crt", "--grpc-tls-key-file": "tls.key", "--grpc-client-ca-file": "ca.crt"}
    return [part for flag, name in flags.items() for part in (flag, str(files / name))]


def folder(settings: Settings, who: str) -> Path:
    """tls.crt, tls.key and ca.crt of the operator or of envoy."""
    return settings.state / "control-channel" / who


def sds_folder(settings: Settings) -> Path:
    return settings.state / "control-channel" / "sds"
