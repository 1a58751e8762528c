"""A small client of the Kubernetes API: get, list, watch, create, patch, delete. No retries, no caches, no typed objects."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Iterator


class ApiError(Exception):
    def __init__(self, code: int, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code


class KubeApi:
    """Reads a kubeconfig that is JSON (which every kubeconfig may be) and holds a bearer token."""

    def __init__(self, kubeconfig: Path):
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self.server = cluster["server"].rstrip("/")
        self.token = config["users"][0]["user"]["token"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.tls = ssl.create_default_context(cadata=authority)
        # kube-apiserver's self-made certificate lacks an extension that Python 3.13 began to insist on.
        self.tls.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)

    def get(self, path: str) -> dict:
        return self._call("GET", path)

    def create(self, path: str, body: dict) -> dict:
        return self._call("POST", path, body)

    def patch(self, path: str, body: dict) -> dict:
        return self._call("PATCH", path, body, "application/merge-patch+json")

    def delete(self, path: str, grace_seconds: int | None = None, uid: str | None = None) -> None:
        options: dict = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            self._call("DELETE", path, options)
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    def watch(self, path: str, resource_version: str, seconds: int = 240) -> Iterator[dict]:
        """Events from `resource_version` on; ends after `seconds`, or when the server says so."""
        joint = "&" if "?" in path else "?"
        query = f"{joint}watch=1&allowWatchBookmarks=true&resourceVersion={resource_version}&timeoutSeconds={seconds}"
        with self._open("GET", path + query, timeout=seconds + 30) as answer:
            for line in answer:
                yield json.loads(line)

    def _call(self, method: str, path: str, body: dict | None = None, content_type: str = "application/json") -> dict:
        with self._open(method, path, body, content_type) as answer:
            return json.load(answer)

    def _open(self, method, path, body=None, content_type="application/json", timeout=30):
        request = urllib.request.Request(
            self.server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": content_type, "Accept": "application/json"},
        )
        try:
            return self._opener().open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                text = json.loads(text).get("message", text)
            except ValueError:
                pass
            raise ApiError(error.code, text) from None

    def _opener(self):
        # Without the empty ProxyHandler a proxy in the environment would be asked for loopback addresses.
        handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.tls)]
        return urllib.request.build_opener(*handlers)
