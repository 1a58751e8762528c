"""Envoy, started from the repository's bootstrap. Everything else it learns from the operator."""

from __future__ import annotations

import string
from pathlib import Path

from . import commands, control_channel
from .services import Services
from .settings import REPOSITORY, Settings

MAX_HEAP_BYTES = 1 << 30


def start(settings: Settings, services: Services, venv: Path) -> None:
    bootstrap = "bootstrap-mtls.yaml" if settings.mtls else "bootstrap.yaml"
    rendered = [_render(settings, bootstrap, settings.state / "envoy-bootstrap.yaml")]
    if settings.mtls:
        sds = control_channel.sds_folder(settings)
        rendered += [_render(settings, name, sds / name) for name in control_channel.SDS_FILES]
    process = services.ensure(
        "envoy",
        [
            str(binary(venv)),
            *("-c", str(rendered[0])),
            *("--concurrency", "2"),
            *("--log-level", "info"),
            "--reject-unknown-dynamic-fields",
            "--disable-hot-restart",
        ],
        ["envoy-admin"],
        files=rendered,
    )
    commands.wait_for("Envoy is live", lambda: healthy(settings), 60, process)


def binary(venv: Path) -> Path:
    return next(venv.glob("lib/python3*/site-packages/envoy/_bin/envoy"))


def _render(settings: Settings, name: str, target: Path) -> Path:
    template = string.Template((REPOSITORY / "envoy" / name).read_text())
    text = template.substitute(
        OPERATOR_HOST="127.0.0.1",
        OPERATOR_PORT=settings.ports["operator-grpc"],
        OPERATOR_NAME=control_channel.OPERATOR_NAME,
        ADMIN_HOST="127.0.0.1",
        ADMIN_PORT=settings.ports["envoy-admin"],
        MAX_HEAP_BYTES=MAX_HEAP_BYTES,
        NODE_ID=f"local-{settings.seed[:8]}",
        SDS_DIR=control_channel.sds_folder(settings),
        TLS_DIR=control_channel.folder(settings, "envoy"),
    )
    if not target.exists() or target.read_text() != text:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return target


def healthy(settings: Settings) -> bool:
    """Live means that the operator has sent a first configuration; the port may follow a moment later."""
    return commands.http_ok(f"http://127.0.0.1:{settings.ports['envoy-admin']}/ready")
