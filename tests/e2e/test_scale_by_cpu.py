"""Pools that are sized by what their drivers use, as metrics.k8s.io measures it: the dev node answers for real processes."""

import json
import re

import pytest

from clients import CONNECT_CLASS, condition, template

APISERVICE = "v1beta1.metrics.k8s.io"
MEASURED = "/apis/metrics.k8s.io/v1beta1/pods"
# The CPU of the first two minutes of a driver does not count; figures are read every 15 s, and seen by then.
START_UP = 120
ROUNDS = 60

# For as long as the test reads: it ends with its client.
BUSY = "SELECT count(*) FROM range(200000000000L) WHERE hash(id) = 1"


def scaling(metric: str, target: int) -> dict:
    return {"metrics": {"type": metric, "targetPerInstance": target}, "cooldownSeconds": 0, "drainTimeoutSeconds": 1}


def driver(**more) -> dict:
    return {"spec": template(CONNECT_CLASS, driver={"cores": 1, "memory": "768m", **more})}


@pytest.fixture
def events(objects):
    """events(pool, reason) -> what the pool's Events of that reason say."""

    def call(pool: str, reason: str) -> list[str]:
        found = objects("events", f"--field-selector=involvedObject.name={pool},reason={reason}")
        return [event["message"] for event in found]

    return call


@pytest.fixture
def no_metrics_api(kubectl, thing):
    """no_metrics_api() takes the API away, as in a cluster without a metrics-server; it is there again after the test."""
    service = thing("apiservice", APISERVICE)

    def call() -> None:
        kubectl("delete", "apiservice", APISERVICE)

    yield call
    service["metadata"] = {"name": APISERVICE}
    service.pop("status", None)
    kubectl("apply", "-f", "-", stdin=json.dumps(service))


def test_load_brings_a_second_instance_and_calm_takes_it_away(
    new_pool, shells, remote_url, kubectl, thing, instances, events, eventually, users
):
    pool = new_pool(
        "by-cpu",
        "connect",
        replicas={"min": 0, "max": 2},
        scaling=scaling("cpu", 50),
        sparkApplicationTemplate=driver(coreRequest="200m"),
    )
    idle = shells("pyspark", remote_url(users[0], host=f"{pool}.test"))
    idle.says("SELECT 'here'", "here", 90)
    busy = shells("pyspark", remote_url(users[1], host=f"{pool}.test"))
    busy.says("SELECT 'here'", "here", 30)
    busy.say(BUSY)
    # `kubectl top` fails as long as nothing is measured.
    eventually(lambda: f"{pool}-0-driver" in kubectl("get", "--raw", MEASURED), 30, "its use is measured")
    assert f"{pool}-0-driver" in kubectl("top", "pod")
    assert instances(pool) == {f"{pool}-0": "Running"}

    eventually(lambda: len(instances(pool)) == 2, START_UP + ROUNDS, "a second instance is started")
    words = (
        r"1 → 2: cpu at \d+ % of the requests on average over 1 instance\(s\), target 50 % would need \d+, and "
        r"replicas\.max is 2\."
    )
    eventually(lambda: any(re.fullmatch(words, told) for told in events(pool, "ScaledUp")), 10, "an Event says why")
    eventually(lambda: set(instances(pool).values()) == {"Running"}, 60, "it answers")

    # Both are on the first, whose session nobody has to move.
    busy.end()
    kubectl("delete", "sis", f"--field-selector=spec.pool={pool},spec.user={users[1]}", "--wait=false")
    eventually(lambda: instances(pool) == {f"{pool}-0": "Running"}, ROUNDS + 30, "calm takes the second one away")
    words = r"2 → 1: cpu at \d+ % of the requests on average over \d instance\(s\), target 50 %.*"
    eventually(lambda: any(re.fullmatch(words, told) for told in events(pool, "ScaledDown")), 10, "an Event says why")
    idle.says("SELECT 'still here'", "still here", 30)

    kubectl("delete", "sis", f"--field-selector=spec.pool={pool}", "--wait=false")
    idle.end()
    eventually(lambda: not instances(pool), ROUNDS + 30, "without sessions none is left")


def test_memory_counts_from_the_beginning(new_pool, pyspark, remote_url, thing, instances, events, eventually, users):
    pool = new_pool(
        "by-memory",
        "connect",
        replicas={"min": 0, "max": 2},
        scaling=scaling("memory", 5),
        sparkApplicationTemplate=driver(),
    )
    pyspark("spark.range(1).collect()", remote_url(users[0], host=f"{pool}.test"), stop=False).succeeded()
    eventually(lambda: len(instances(pool)) == 2, ROUNDS, "a second instance is started")
    words = r"1 → 2: memory at \d+ % of the requests on average over 1 instance\(s\), target 5 % would need .*"
    eventually(lambda: any(re.fullmatch(words, told) for told in events(pool, "ScaledUp")), 10, "an Event says why")
    scaled = condition(thing("ssp", pool), "Scaled")
    assert (scaled["status"], scaled["reason"]) == ("False", "AtMaximum"), scaled


def test_without_the_metrics_api_the_number_of_instances_stays(
    new_pool, pyspark, remote_url, thing, instances, no_metrics_api, eventually, users, environment
):
    no_metrics_api()
    told_before = environment.log("operator").count("no metrics.k8s.io API")
    pool = new_pool(
        "unmeasured",
        "connect",
        replicas={"min": 0, "max": 2},
        scaling=scaling("memory", 5),
        sparkApplicationTemplate=driver(),
    )
    pyspark("spark.range(1).collect()", remote_url(users[0], host=f"{pool}.test"), stop=False).succeeded()
    problem = "memory is not measured: the cluster has no metrics.k8s.io API; install metrics-server"

    def told() -> bool:
        return problem in condition(thing("ssp", pool), "Scaled").get("message", "")

    eventually(told, ROUNDS, "the pool says what is wrong")
    scaled = condition(thing("ssp", pool), "Scaled")
    assert (scaled["status"], scaled["reason"]) == ("False", "NotMeasured"), scaled
    assert scaled["message"] == f"1 instance stays: {problem}."
    assert instances(pool) == {f"{pool}-0": "Running"}
    assert environment.log("operator").count("no metrics.k8s.io API") == told_before + 1, "said once"
