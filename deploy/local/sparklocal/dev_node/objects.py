"""The Pod and the statuses that the real Spark Operator and kubelet would write. Pure."""

from __future__ import annotations

import datetime

from . import environment

NODE = "dev-node"
CONTAINER = "spark-kubernetes-driver"
OPERATOR = "sparkoperator.k8s.io"


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def node() -> dict:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}}


def node_status(kubelet_port: int) -> dict:
    """Ready, since otherwise the Pod garbage collector and readers of `kubectl get nodes` draw conclusions."""
    endpoints = {"kubeletEndpoint": {"Port": kubelet_port}}
    ready = {"type": "Ready", "status": "True", "reason": "DevNode", "message": "processes, not containers"}
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
    return {"status": {"conditions": [ready], "addresses": addresses, "daemonEndpoints": endpoints}}


def pod_name(app: dict) -> str:
    return f"{app['metadata']['name']}-driver"


def driver_pod(app: dict, submission_id: str) -> dict:
    meta, spec = app["metadata"], app["spec"]
    driver = spec.get("driver") or {}
    labels = {
        **(meta.get("labels") or {}),
        **(driver.get("labels") or {}),
        "spark-role": "driver",
        "spark-app-name": meta["name"],
        "spark-version": spec["sparkVersion"],
        f"{OPERATOR}/app-name": meta["name"],
        f"{OPERATOR}/launched-by-spark-operator": "true",
        f"{OPERATOR}/submission-id": submission_id,
    }
    owner = {
        "apiVersion": f"{OPERATOR}/v1beta2",
        "kind": "SparkApplication",
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }
    image = spec.get("image") or driver.get("image") or "spark"
    env = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": key.secret, "key": key.key, "optional": key.optional}}}
        for name, key in environment.secret_keys(app).items()
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(app),
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": driver.get("annotations") or {},
            "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": NODE,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 30,
            "containers": [{"name": CONTAINER, "image": image, "env": env, "resources": {"requests": _requests(spec)}}],
        },
    }


def _requests(spec: dict) -> dict[str, str]:
    """As Spark makes them: of CPU the driver's cores, of memory its heap and a tenth more, 384 MiB at least."""
    driver, conf = spec.get("driver") or {}, spec.get("sparkConf") or {}
    cores = driver.get("cores") or conf.get("spark.driver.cores", 1)
    cpu = driver.get("coreRequest") or conf.get("spark.kubernetes.driver.request.cores", cores)
    heap = _mebibytes(driver.get("memory") or conf.get("spark.driver.memory", "1g"))
    overhead = driver.get("memoryOverhead") or conf.get("spark.driver.memoryOverhead")
    return {"cpu": str(cpu), "memory": f"{heap + (_mebibytes(overhead) if overhead else max(heap // 10, 384))}Mi"}


def _mebibytes(text: str) -> int:
    """As Spark reads memory: `768m`, `2g`, and mebibytes where no unit stands."""
    text = str(text).strip().lower().removesuffix("b").removesuffix("i")
    units = {"k": 1 / 1024, "m": 1, "g": 1024, "t": 1024 * 1024}
    return int(float(text[:-1]) * units[text[-1]]) if text[-1] in units else int(text)


def pod_waiting(address: str, message: str) -> dict:
    """Its network is there, since that comes before its containers."""
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": message}}
    return {"status": {**_pod_status("Pending", state, ready=False), **_pod_network(address)}}


def pod_running(address: str) -> dict:
    state = {"running": {"startedAt": now()}}
    return {"status": {**_pod_status("Running", state, ready=True), **_pod_network(address)}}


def pod_ended(exit_code: int, reason: str) -> dict:
    state = {"terminated": {"exitCode": exit_code, "reason": reason, "finishedAt": now()}}
    return {"status": _pod_status("Failed" if exit_code else "Succeeded", state, ready=False)}


def _pod_network(address: str) -> dict:
    return {"podIP": address, "podIPs": [{"ip": address}], "hostIP": "127.0.0.1", "startTime": now()}


def _pod_status(phase: str, state: dict, ready: bool) -> dict:
    truth = {True: "True", False: "False"}
    conditions = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
    container = {
        "name": CONTAINER,
        "ready": ready,
        "started": ready,
        "restartCount": 0,
        "image": "",
        "imageID": "",
        "state": state,
    }
    return {
        "phase": phase,
        "conditions": [
            {"type": kind, "status": truth[value], "lastTransitionTime": now()} for kind, value in conditions.items()
        ],
        "containerStatuses": [container],
    }


def app_submitted(app: dict, submission_id: str) -> dict:
    return _app_status("SUBMITTED", **_submission(app, submission_id))


def app_running(app_id: str) -> dict:
    return _app_status("RUNNING", sparkApplicationId=app_id, executionAttempts=1)


def app_submission_failed(app: dict, submission_id: str, log_tail: str) -> dict:
    message = f"failed to run spark-submit: {log_tail}"
    return _app_status("SUBMISSION_FAILED", message, **_submission(app, submission_id))


def app_failing(message: str) -> dict:
    return _app_status("FAILING", message, terminationTime=now())


def app_failed(message: str) -> dict:
    return _app_status("FAILED", message)


def app_succeeding() -> dict:
    return _app_status("SUCCEEDING", terminationTime=now())


def app_completed() -> dict:
    return _app_status("COMPLETED")


def exit_message(exit_code: int, reason: str) -> str:
    return f"driver container failed with ExitCode: {exit_code}, Reason: {reason}"


def _submission(app: dict, submission_id: str) -> dict:
    return {
        "submissionID": submission_id,
        "submissionAttempts": 1,
        "lastSubmissionAttemptTime": now(),
        "driverInfo": {"podName": pod_name(app)},
    }


def _app_status(state: str, message: str | None = None, **more) -> dict:
    application_state = {"state": state, **({"errorMessage": message} if message else {})}
    return {"status": {"applicationState": application_state, **more}}
