"""What kube-apiserver asks the dev node: the part of a kubelet that has logs, and what `metrics` answers.

Only that: no exec, no port-forward. It listens on loopback, and asks nobody who they are.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from . import metrics
from .metrics import Metrics

PREFIX = "/containerLogs/"


def serve(port: int, state: Path, logs: Path, figures: Metrics) -> None:
    """In threads of its own, until the process ends."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(logs, figures))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_certificate(state))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, name="kubelet", daemon=True).start()


def _certificate(state: Path) -> tuple[Path, Path]:
    """Signed by itself: kube-apiserver is not told whom to trust for kubelets, and then trusts all."""
    certificate, key = state / "kubelet.crt", state / "kubelet.key"
    if not certificate.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=dev-node"]
            + ["-keyout", str(key), "-out", str(certificate)],
            check=True,
            capture_output=True,
        )
        key.chmod(0o600)
    return certificate, key


def _handler(logs: Path, figures: Metrics) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802, the name that http.server calls
            url = urlsplit(self.path)
            asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
            if url.path.startswith(metrics.PREFIX):
                self._answer(figures.answer(url.path, asked))
                return
            parts = url.path.removeprefix(PREFIX).split("/")
            log = logs / f"{parts[1]}.log" if url.path.startswith(PREFIX) and len(parts) == 3 else None
            if log is None or log.parent != logs or not log.exists():
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("content-type", "text/plain")
            self.end_headers()  # without a length: HTTP/1.0, the end of the connection is the end of the log
            self._send(log, asked)

        def _answer(self, body: dict | None) -> None:
            missing = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
            self.send_response(200 if body else 404)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body or missing).encode())

        def _send(self, log: Path, asked: dict[str, str]) -> None:
            with open(log, "rb") as file:
                said = file.read()
                if "tailLines" in asked:
                    lines = said.splitlines(keepends=True)
                    said = b"".join(lines[len(lines) - min(int(asked["tailLines"]), len(lines)) :])
                if "limitBytes" in asked:
                    said = said[: int(asked["limitBytes"])]
                try:
                    self.wfile.write(said)
                    while asked.get("follow") == "true":
                        time.sleep(0.5)
                        self.wfile.write(file.read())
                        self.wfile.flush()
                except OSError:
                    pass  # whoever asked has gone

        def log_message(self, *_: object) -> None:
            pass

    return Handler
