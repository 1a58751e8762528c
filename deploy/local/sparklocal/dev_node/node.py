"""Compares the SparkApplications and Pods with the drivers that run, and acts on the difference.

Level-triggered: each pass looks at everything and does the next step for each application, so a pass that fails is
simply done again.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from pathlib import Path

from ..kube_api import ApiError, KubeApi
from . import environment, metrics, objects
from .addresses import next_address
from .command import Installation, driver_command
from .driver import Driver, Record
from .watching import Watched

log = logging.getLogger("dev-node")

UNFINISHED = ("SUBMITTED", "RUNNING", "FAILING", "SUCCEEDING", "SUBMISSION_FAILED")
# What spark-submit takes on a cluster before there is a Pod that could say what it waits for.
SUBMISSION = 3.0
DRIVERS = "labelSelector=spark-role%3Ddriver"


class Node:
    def __init__(
        self, api: KubeApi, namespace: str, state: Path, seed: str, installation: Installation, kubelet_port: int
    ):
        self.api = api
        self.kubelet_port = kubelet_port
        self.apps_path = f"/apis/sparkoperator.k8s.io/v1beta2/namespaces/{namespace}/sparkapplications"
        self.pods_path = f"/api/v1/namespaces/{namespace}/pods"
        self.wake = threading.Event()
        self.apps = Watched(api, self.apps_path, self.wake)
        self.pods = Watched(api, f"{self.pods_path}?{DRIVERS}", self.wake)
        self.secrets = Watched(api, f"/api/v1/namespaces/{namespace}/secrets", self.wake)
        self.folder = state / "drivers"
        self.logs = state / "logs"
        self.seed = seed
        self.installation = installation
        self.drivers: dict[str, Driver] = {}

    def run(self) -> None:
        self._register()
        self._adopt()
        for watched in (self.apps, self.pods, self.secrets):
            watched.start()
            watched.synced.wait()
        while True:
            # Cleared before looking, so that a change during the pass causes another one.
            self.wake.wait(timeout=0.25)
            self.wake.clear()
            self._look()

    def _register(self) -> None:
        try:
            self.api.create("/api/v1/nodes", objects.node())
        except ApiError as error:
            if error.code != 409:
                raise
        self.api.patch(f"/api/v1/nodes/{objects.NODE}/status", objects.node_status(self.kubelet_port))
        metrics.register(self.api, self.kubelet_port)

    def sessions(self) -> dict[str, int]:
        """Pod name -> process session, of the drivers that run."""
        drivers = [driver.record for driver in list(self.drivers.values())]
        return {f"{record.app}-driver": record.pid for record in drivers if record.phase == "RUNNING"}

    def _adopt(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in self.folder.iterdir():
            driver = Driver.load(folder)
            if driver:
                self.drivers[driver.record.app_uid] = driver
                log.info("%s: found again, pid %d, %s", driver.record.app, driver.record.pid, _life(driver))

    def _look(self) -> None:
        pods = self.pods.snapshot()
        apps = {app["metadata"]["uid"]: app for app in self.apps.snapshot().values()}
        for uid in {*apps, *self.drivers}:
            app = apps.get(uid)
            try:
                self._step(app, self.drivers.get(uid), pods)
            except (ApiError, OSError) as error:
                name = app["metadata"]["name"] if app else uid
                log.warning("%s: %s", name, error)

    def _step(self, app: dict | None, driver: Driver | None, pods: dict[str, dict]) -> None:
        if app is None or app["metadata"].get("deletionTimestamp"):
            if driver:
                self._remove(driver, pods.get(f"{driver.record.app}-driver"))
            return
        state = _state(app)
        pod = pods.get(objects.pod_name(app))
        if pod and not _owned(pod, app):
            self._delete(pod)  # left over from an application of the same name
        elif driver is None and not state:
            self._launch(app)
        elif driver is None and state in UNFINISHED:
            self._finish_failed(app, "driver pod not found")
        elif driver and driver.record.phase == "WAITING":
            self._start(app, driver, pod)
        elif driver and driver.record.phase == "SUBMITTING":
            self._submit(app, driver)
        elif driver and driver.record.phase == "RUNNING":
            self._watch_over(app, driver, pod)
        elif driver and pod and pod["metadata"].get("deletionTimestamp"):
            self._delete(pod)
        # An ended driver is kept until its application goes: without it the application would look like a new one.

    def _launch(self, app: dict) -> None:
        meta = app["metadata"]
        if app["spec"].get("suspend"):
            return
        address = next_address(self.seed, {driver.record.address for driver in self.drivers.values()})
        folder = self.folder / meta["uid"]
        pod = objects.pod_name(app)
        record = Record(meta["name"], meta["uid"], str(uuid.uuid4()), address, str(self.logs / f"{pod}.log"))
        self.drivers[meta["uid"]] = Driver.prepare(folder, record)
        self._start(app, self.drivers[meta["uid"]], None)

    def _start(self, app: dict, driver: Driver, pod: dict | None) -> None:
        """As soon as the Secrets are there that it names, and its Spark."""
        record = driver.record
        if record.waits_for and (pod is None or pod["metadata"].get("deletionTimestamp")):
            self._finish_failed(app, "driver pod not found")
            if pod:
                self._delete(pod)
            self._phase(driver, "ENDED")
            return
        home = self.installation.home_of(app)
        if not any(home.glob("jars/spark-connect_*.jar")):  # the last part that comes there
            self._wait(app, driver, f"Spark {app['spec']['sparkVersion']} is not on this machine: deploy/local/spark-3.5 obtains it")
            return
        try:
            variables = environment.variables(app, self.secrets.snapshot())
        except environment.MissingSecret as missing:
            self._wait(app, driver, str(missing))
            return
        driver.start(driver_command(app, record.address, driver.folder, variables, self.installation))
        log.info("%s: spark-submit started on %s, pid %d", record.app, record.address, record.pid)

    def _wait(self, app: dict, driver: Driver, message: str) -> None:
        record = driver.record
        if record.waits_for != message and time.time() - record.launched > SUBMISSION:
            self._set(app, objects.app_submitted(app, record.submission_id))
            self._create_pod(app, record)
            self.api.patch(f"{self.pods_path}/{objects.pod_name(app)}/status", objects.pod_waiting(record.address, message))
            log.info("%s: %s", record.app, message)
            record.waits_for = message
            driver.save()

    def _submit(self, app: dict, driver: Driver) -> None:
        """spark-submit either fails, and there never is a Pod, or gets to the point where a Pod would exist."""
        record = driver.record
        if not driver.alive() and record.waits_for:
            self._phase(driver, "RUNNING")  # its Pod is there, and is what ends
        elif not driver.alive():
            tail = driver.log_tail()
            log.info("%s: spark-submit failed", record.app)
            self._set(app, objects.app_submission_failed(app, record.submission_id, tail))
            self._set(app, objects.app_failed(f"failed to run spark-submit: {tail}"))
            self._phase(driver, "ENDED")
        elif driver.accepted():
            self._set(app, objects.app_submitted(app, record.submission_id))
            self._create_pod(app, record)
            self.api.patch(f"{self.pods_path}/{objects.pod_name(app)}/status", objects.pod_running(record.address))
            self._set(app, objects.app_running(f"spark-{record.submission_id.replace('-', '')}"))
            self._phase(driver, "RUNNING")
            log.info("%s: running", record.app)

    def _create_pod(self, app: dict, record: Record) -> None:
        try:
            created = self.api.create(self.pods_path, objects.driver_pod(app, record.submission_id))
        except ApiError as error:
            if error.code != 409:  # 409: made in an earlier pass that then failed
                raise
            created = self.api.get(f"{self.pods_path}/{objects.pod_name(app)}")
        # The watch may not have told of it yet, and a driver without a Pod is one whose Pod was deleted.
        with self.pods.lock:
            self.pods.objects.setdefault(objects.pod_name(app), created)

    def _watch_over(self, app: dict, driver: Driver, pod: dict | None) -> None:
        deleted = pod is None or pod["metadata"].get("deletionTimestamp")
        if deleted and driver.alive():
            driver.end(_grace(pod))
        elif not driver.alive():
            code, reason = driver.exit()
            log.info("%s: ended with exit code %d, %s", driver.record.app, code, reason)
            if pod:
                self.api.patch(f"{self.pods_path}/{objects.pod_name(app)}/status", objects.pod_ended(code, reason))
            if deleted:
                self._finish_failed(app, "driver pod not found")
            elif code:
                self._finish_failed(app, objects.exit_message(code, reason))
            else:
                self._set(app, objects.app_succeeding())
                self._set(app, objects.app_completed())
            if pod and deleted:
                self._delete(pod)
            self._phase(driver, "ENDED")

    def _remove(self, driver: Driver, pod: dict | None) -> None:
        """The application is gone: first its process, then its Pod, then what remembers them."""
        if driver.alive():
            driver.end(_grace(pod))
            return
        if pod and any(ref["uid"] == driver.record.app_uid for ref in pod["metadata"].get("ownerReferences", [])):
            self._delete(pod)
        log.info("%s: removed", driver.record.app)
        driver.forget()
        self.drivers.pop(driver.record.app_uid, None)

    def _finish_failed(self, app: dict, message: str) -> None:
        self._set(app, objects.app_failing(message))
        self._set(app, objects.app_failed(message))

    def _set(self, app: dict, status: dict) -> None:
        try:
            self.api.patch(f"{self.apps_path}/{app['metadata']['name']}/status", status)
        except ApiError as error:
            if error.code != 404:
                raise

    def _delete(self, pod: dict) -> None:
        meta = pod["metadata"]
        self.api.delete(f"{self.pods_path}/{meta['name']}", grace_seconds=0, uid=meta["uid"])

    def _phase(self, driver: Driver, phase: str) -> None:
        driver.record.phase = phase
        driver.save()
        self.wake.set()


def _state(app: dict) -> str:
    return ((app.get("status") or {}).get("applicationState") or {}).get("state", "")


def _owned(pod: dict, app: dict) -> bool:
    return any(ref["uid"] == app["metadata"]["uid"] for ref in pod["metadata"].get("ownerReferences", []))


def _grace(pod: dict | None) -> float:
    """How long after SIGTERM comes SIGKILL: what the deletion says, else what is left when no Pod says anything."""
    return float(pod["metadata"].get("deletionGracePeriodSeconds", 10) if pod else 10)


def _life(driver: Driver) -> str:
    return "alive" if driver.alive() else "dead"
