"""What the API says, kept up to date by a thread per kind. Knows nothing of drivers."""

from __future__ import annotations

import logging
import threading
import time

from ..kube_api import ApiError, KubeApi

log = logging.getLogger("dev-node")


class Watched:
    """A copy of one list, by name. `wake` is set on every change."""

    def __init__(self, api: KubeApi, path: str, wake: threading.Event):
        self.api = api
        self.path = path
        self.wake = wake
        self.lock = threading.Lock()
        self.objects: dict[str, dict] = {}
        self.synced = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def snapshot(self) -> dict[str, dict]:
        with self.lock:
            return dict(self.objects)

    def _run(self) -> None:
        while True:
            try:
                self._follow(self._list())
            except (ApiError, OSError, ValueError, KeyError) as error:
                log.warning("watch of %s: %s", self.path, error)
                time.sleep(1)

    def _list(self) -> str:
        answer = self.api.get(self.path)
        with self.lock:
            self.objects = {item["metadata"]["name"]: item for item in answer["items"]}
        self.synced.set()
        self.wake.set()
        return answer["metadata"]["resourceVersion"]

    def _follow(self, version: str) -> None:
        while True:
            for event in self.api.watch(self.path, version):
                if event["type"] == "ERROR":
                    return  # too old: list again
                item = event["object"]
                version = item["metadata"]["resourceVersion"]
                if event["type"] == "BOOKMARK":
                    continue
                with self.lock:
                    if event["type"] == "DELETED":
                        self.objects.pop(item["metadata"]["name"], None)
                    else:
                        self.objects[item["metadata"]["name"]] = item
                self.wake.set()
