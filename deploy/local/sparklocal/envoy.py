"""Envoy, started from the repository's bootstrap. Everything else it learns from the operator."""

from __future__ import annotations

import string
from pathlib import Path

from . import commands
from .services import Services
from .settings import REPOSITORY, Settings


def start(settings: Settings, services: Services, venv: Path) -> None:
    rendered = settings.state / "envoy-bootstrap.yaml"
    template = string.Template((REPOSITORY / "envoy" / "bootstrap.yaml").read_text())
    text = template.substitute(
        OPERATOR_HOST="127.0.0.1",
        OPERATOR_PORT=settings.ports["operator-grpc"],
        ADMIN_HOST="127.0.0.1",
        ADMIN_PORT=settings.ports["envoy-admin"],
        NODE_ID=f"local-{settings.seed[:8]}",
    )
    if not rendered.exists() or rendered.read_text() != text:
        rendered.write_text(text)
    process = services.ensure(
        "envoy",
        [
            str(next(venv.glob("lib/python3*/site-packages/envoy/_bin/envoy"))),
            *("-c", str(rendered)),
            *("--concurrency", "2"),
            *("--log-level", "info"),
            "--reject-unknown-dynamic-fields",
            "--disable-hot-restart",
        ],
        ["envoy-admin"],
        files=[rendered],
    )
    commands.wait_for("Envoy is live", lambda: healthy(settings), 60, process)


def healthy(settings: Settings) -> bool:
    """Live means that the operator has sent a first configuration; the port may follow a moment later."""
    return commands.http_ok(f"http://127.0.0.1:{settings.ports['envoy-admin']}/ready")
