"""The local environment gives drivers what kubelet gives them from Secrets, and says what kubelet says when it cannot."""

import json
import uuid
from pathlib import Path

import pytest

from clients import CONNECT_CLASS, template

CONF = "spark.kubernetes.driver.secretKeyRef."


@pytest.fixture
def name(kubectl):
    name = f"secrets-{uuid.uuid4().hex[:5]}"
    yield name
    kubectl("delete", "sparkapplication,secret", "--ignore-not-found", "--wait=false", name)


@pytest.fixture
def start(kubectl, name):
    """start(sparkConf, driver={}) makes a SparkApplication of a Connect server with these."""

    def call(conf: dict, driver: dict | None = None) -> None:
        spec = template(CONNECT_CLASS, sparkConf={"spark.connect.grpc.binding.port": "15002", **conf})
        spec["driver"] |= driver or {}
        manifest = {"apiVersion": "sparkoperator.k8s.io/v1beta2", "kind": "SparkApplication", "metadata": {"name": name}}
        kubectl("create", "-f", "-", stdin=json.dumps({**manifest, "spec": spec}))

    return call


@pytest.fixture
def secret(kubectl, name):
    """secret(key=value, …) makes or changes the Secret of the test."""

    def call(**data: str) -> None:
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    return call


@pytest.fixture
def waiting(thing, name, eventually):
    """waiting(message) returns when the driver's Pod says that it waits for this."""

    def call(message: str) -> None:
        def seen():
            status = thing("pod", f"{name}-driver").get("status", {})
            states = [container["state"] for container in status.get("containerStatuses", [])]
            expected = [{"waiting": {"reason": "CreateContainerConfigError", "message": message}}]
            return status.get("phase") == "Pending" and states == expected

        eventually(seen, 30, message)

    return call


@pytest.fixture
def variables(environment, thing, name, eventually):
    """variables() -> the environment of the driver's process, once it runs."""

    def call() -> dict[str, str]:
        eventually(lambda: thing("pod", f"{name}-driver").get("status", {}).get("phase") == "Running", 60, "it runs")
        files = (environment.state / "drivers").glob("*/driver.json")
        (pid,) = [record["pid"] for record in map(json.loads, map(Path.read_text, files)) if record["app"] == name]
        pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
        return dict(pair.split("=", 1) for pair in pairs if pair)

    return call


def test_a_driver_waits_for_its_secret_and_for_the_key_in_it(start, secret, waiting, variables, thing, name):
    start({f"{CONF}MINE": f"{name}:token"})
    waiting(f'secret "{name}" not found')
    assert thing("sparkapplication", name)["status"]["applicationState"]["state"] == "SUBMITTED"
    secret(other="x")
    waiting(f"couldn't find key token in Secret spark-dev/{name}")
    secret(token="of-this-instance")
    assert variables()["MINE"] == "of-this-instance"
    assert thing("sparkapplication", name)["status"]["applicationState"]["state"] == "RUNNING"
    assert "of-this-instance" not in json.dumps(thing("pod", f"{name}-driver"))


def test_the_fields_of_the_driver_go_before_spark_conf(start, secret, variables, name):
    secret(conf="from-the-conf", field="from-the-field", env="from-env")
    references = {"BOTH": {"name": name, "key": "field"}}
    env = [
        {"name": "ENV", "valueFrom": {"secretKeyRef": {"name": name, "key": "env"}}},
        {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": name, "key": "absent", "optional": True}}},
        {"name": "PLAIN", "value": "plain"},
    ]
    confs = {f"{CONF}{key}": f"{name}:conf" for key in ("CONF", "BOTH", "ENV")}
    start({**confs, "spark.kubernetes.driverEnv.SET": "by-spark"}, {"envSecretKeyRefs": references, "env": env})
    found = variables()
    expected = {"CONF": "from-the-conf", "BOTH": "from-the-field", "ENV": "from-env", "PLAIN": "plain", "SET": "by-spark"}
    assert {key: found.get(key) for key in expected} == expected
    assert "ABSENT" not in found


def test_a_driver_whose_pod_is_deleted_while_it_waits_has_failed(start, waiting, kubectl, thing, name, eventually):
    start({f"{CONF}MINE": f"{name}:token"})
    waiting(f'secret "{name}" not found')
    kubectl("delete", "pod", f"{name}-driver", "--wait=false")
    state = eventually(
        lambda: thing("sparkapplication", name)["status"]["applicationState"].get("errorMessage"), 30, "the application fails"
    )
    assert state == "driver pod not found"
    eventually(lambda: not thing("pod", f"{name}-driver"), 30, "the Pod goes")
