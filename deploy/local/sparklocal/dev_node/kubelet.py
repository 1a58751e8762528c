"""The part of a kubelet that kube-apiserver asks for logs: `kubectl logs`, and whoever else reads them by the API.

Only that: no exec, no port-forward. It listens on loopback, and asks nobody who they are.
"""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PREFIX = "/containerLogs/"


def serve(port: int, state: Path, logs: Path) -> None:
    """In threads of its own, until the process ends."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(logs))
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


def _handler(logs: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802, the name that http.server calls
            url = urlsplit(self.path)
            parts = url.path.removeprefix(PREFIX).split("/")
            log = logs / f"{parts[1]}.log" if url.path.startswith(PREFIX) and len(parts) == 3 else None
            if log is None or log.parent != logs or not log.exists():
                self.send_error(404)
                return
            asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
            self.send_response(200)
            self.send_header("content-type", "text/plain")
            self.end_headers()  # without a length: HTTP/1.0, the end of the connection is the end of the log
            self._send(log, asked)

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
