"""The part of a metrics server that kube-apiserver asks: `metrics.k8s.io`, for `kubectl top pod` and whoever sizes by it.

Only driver Pods, and only their newest figures; no nodes. It asks nobody who they are: kube-apiserver has done that.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
from typing import Callable, Iterator

from ..kube_api import ApiError, KubeApi
from .objects import CONTAINER
from .usage import Sample, samples

log = logging.getLogger("dev-node")

GROUP = "metrics.k8s.io"
VERSION = "v1beta1"
PREFIX = f"/apis/{GROUP}/{VERSION}"
# A real one measures every 15 s. Whoever waits for figures here would rather not.
INTERVAL = 5.0
SERVICE = {"namespace": "kube-system", "name": "dev-node-metrics"}


def register(api: KubeApi, port: int) -> None:
    """kube-apiserver passes on what it is asked about the group. An ExternalName, since Services have no other way to
    loopback."""
    spec = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
    metadata = {"name": SERVICE["name"]}
    services = f"/api/v1/namespaces/{SERVICE['namespace']}/services"
    _apply(api, services, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    spec = {
        "group": GROUP,
        "version": VERSION,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,  # its certificate is signed by itself
        "service": {**SERVICE, "port": port},
    }
    metadata = {"name": f"{VERSION}.{GROUP}"}
    service = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": metadata, "spec": spec}
    _apply(api, "/apis/apiregistration.k8s.io/v1/apiservices", service)


def _apply(api: KubeApi, path: str, body: dict) -> None:
    try:
        api.create(path, body)
    except ApiError as error:
        if error.code != 409:
            raise
        api.patch(f"{path}/{body['metadata']['name']}", body)


class Metrics:
    """`sessions()` -> Pod name and process session of each driver that runs; `pods()` -> the driver Pods by name."""

    def __init__(self, sessions: Callable[[], dict[str, int]], pods: Callable[[], dict[str, dict]]):
        self.sessions = sessions
        self.pods = pods
        self.figures: dict[str, tuple[Sample, Sample]] = {}

    def start(self) -> None:
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def _run(self) -> None:
        before: dict[str, tuple[int, Sample]] = {}
        while True:
            sessions = self.sessions()
            measured = samples(set(sessions.values()))
            now = {pod: (session, measured[session]) for pod, session in sessions.items() if session in measured}
            # Two samples of one process make a figure.
            known = {pod: (before[pod][1], it[1]) for pod, it in now.items() if before.get(pod, (None,))[0] == it[0]}
            self.figures, before = known, now
            time.sleep(INTERVAL)

    def answer(self, path: str, asked: dict[str, str]) -> dict | None:
        """What the API says, or None where there is nothing."""
        parts = path.removeprefix(PREFIX).strip("/").split("/")
        if parts == [""]:
            return _resources()
        namespace = None
        if parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        if parts == ["pods"]:
            found = [item for _, item in self._items(namespace, asked.get("labelSelector", ""))]
            return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "PodMetricsList", "metadata": {}, "items": found}
        if parts[0] == "pods" and len(parts) == 2:
            return dict(self._items(namespace, "")).get(parts[1])
        return None

    def _items(self, namespace: str | None, selector: str) -> Iterator[tuple[str, dict]]:
        figures = self.figures
        for name, pod in self.pods().items():
            meta = pod["metadata"]
            if name in figures and namespace in (None, meta["namespace"]) and _selected(meta.get("labels") or {}, selector):
                yield name, _item(meta, *figures[name])


def _selected(labels: dict[str, str], selector: str) -> bool:
    """Of the selectors' language only `key` and `key=value`."""
    for term in filter(None, selector.split(",")):
        key, equals, value = term.replace("==", "=").partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def _item(meta: dict, before: Sample, now: Sample) -> dict:
    seconds = now.at - before.at
    nanocores = max(0, int((now.cpu_seconds - before.cpu_seconds) / seconds * 1e9))
    at = datetime.datetime.fromtimestamp(now.at, datetime.timezone.utc)
    usage = {"cpu": f"{nanocores}n", "memory": f"{now.memory_bytes // 1024}Ki"}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "PodMetrics",
        "metadata": {key: meta[key] for key in ("name", "namespace", "labels", "creationTimestamp") if key in meta},
        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "window": f"{seconds:.3f}s",
        "containers": [{"name": CONTAINER, "usage": usage}],
    }


def _resources() -> dict:
    pods = {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}
    return {"apiVersion": "v1", "kind": "APIResourceList", "groupVersion": f"{GROUP}/{VERSION}", "resources": [pods]}
