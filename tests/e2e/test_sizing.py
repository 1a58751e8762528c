"""Pools that grow with their sessions, go back to nothing, take a new template, and bear one that does not work."""

import json
import re
import threading
import uuid

import pytest

from clients import CONNECT_CLASS, condition, template

STOP = "!spark.stop(); print('stop' + 'ped', flush=True)"
# Twenty seconds.
LONG = """SELECT concat('slept', '-well'), count(slept) FROM (
    SELECT java_method('java.lang.Thread', 'sleep', 500L + id % 1) AS slept FROM range(0, 40, 1, 1))""".replace("\n", "")


@pytest.fixture
def story(kubectl):
    """story(pool) -> reasons and notes of its Events, as `kubectl describe` prints them."""

    def call(pool: str) -> str:
        events = kubectl("describe", "ssp", pool).partition("\nEvents:")[2]
        return re.sub(r" +", " ", events)

    return call


@pytest.fixture
def change_template(kubectl):
    def call(pool: str, **more) -> None:
        path, value = "/spec/sparkApplicationTemplate/spec", template(CONNECT_CLASS, **more)
        kubectl("patch", "ssp", pool, "--type=json", "-p", json.dumps([{"op": "replace", "path": path, "value": value}]))

    return call


def test_from_nothing_to_two_instances_and_back(
    new_pool, shells, remote_url, kubectl, thing, instances, story, eventually, users
):
    scaling = {"metrics": {"targetPerInstance": 1}, "scaleUpThreshold": "1", "cooldownSeconds": 5}
    pool = new_pool("growing", "connect", replicas={"min": 0, "max": 2}, scaling=scaling)
    eventually(lambda: condition(thing("ssp", pool), "Ready").get("reason") == "ScaledToZero", 10, "nothing runs")
    first = shells("pyspark", remote_url(users[0], host=f"{pool}.test"))
    first.says("SELECT 'one'", "one", 90)
    assert instances(pool) == {f"{pool}-0": "Running"}
    second = shells("pyspark", remote_url(users[0], host=f"{pool}.test"))
    second.says("SELECT 'two'", "two", 30)
    eventually(lambda: instances(pool) == {f"{pool}-{n}": "Running" for n in range(2)}, 90, "the second one answers")
    kubectl("wait", "ssp", pool, "--for=condition=Scaled", "--timeout=10s")
    assert condition(thing("ssp", pool), "Scaled")["message"] == "2 instances: 2 sessions at target 1."
    for shell in (first, second):
        shell.says(STOP, "stopped", 30)
    eventually(lambda: not instances(pool), 40, "nothing runs again")
    assert not thing("sparkapplication", f"{pool}-0") and not thing("sparkapplication", f"{pool}-1")
    status = thing("ssp", pool)["status"]
    assert (status["currentReplicas"], status["desiredReplicas"]) == (0, 0) and status["lastScaleTime"]
    told = story(pool)
    for words in (
        "ScaledUp",
        "0 → 1: 1 session at target 1.",
        "1 → 2: 2 sessions at target 1.",
        "2 → 0: 0 sessions at target 1.",
        f"Instance {pool}-1 answers at ",
    ):
        assert words in told, told


def test_a_new_template_is_rolled_out_under_queries_and_none_fails(
    new_pool, shells, pyspark, remote_url, kubectl, thing, instances, story, change_template, eventually, users
):
    pool = new_pool("rolling", "connect", replicas={"min": 1, "max": 2})
    url = remote_url(users[0], host=f"{pool}.test")
    steady = shells("pyspark", url)
    steady.says("SELECT concat('at ', 'first')", "at first", 90)
    over, ran = threading.Event(), []

    def short_sessions() -> None:
        """One after another, each with a session of its own, wherever the pool places it."""
        while not over.is_set():
            ran.append(pyspark("print(spark.range(5).count())", remote_url(users[1], host=f"{pool}.test")))

    others = threading.Thread(target=short_sessions)
    others.start()
    try:
        steady.say(LONG)
        change_template(pool, sparkConf={"spark.app.template": "second"})
        eventually(lambda: instances(pool).get(f"{pool}-1") == "Running", 90, "the new one answers")
        eventually(lambda: instances(pool).get(f"{pool}-0") in ("Draining", None), 10, "the old one takes none any more")
        steady.until("slept-well", 60)
        steady.says("SELECT concat('at ', 'last')", "at last", 30)
        before = len(ran)
        eventually(lambda: len(ran) > before + 1, 60, "others work on")
        new = shells("pyspark", url)
        new.says("SET spark.app.template", "second", 60)
    finally:
        over.set()
        others.join(180)
    assert [(it.out, it.code) for it in ran] == [("5\n", 0)] * len(ran), ran
    assert condition(thing("ssp", pool), "UpToDate")["reason"] == "RollingOut"
    steady.says(STOP, "stopped", 30)
    eventually(lambda: instances(pool) == {f"{pool}-1": "Running"}, 30, "the old one goes with its last session")
    eventually(lambda: condition(thing("ssp", pool), "UpToDate")["status"] == "True", 10, "all is up to date")
    told = story(pool)
    assert f"Instance {pool}-0 takes no new sessions, since the pool's template has changed" in told, told
    assert "RollingOut" in told and "RolledOut" in told, told


def test_what_keeps_an_instance_from_starting_is_told_at_once(new_pool, kubectl, thing, story):
    secret = f"late-{uuid.uuid4().hex[:5]}"
    driver = {"cores": 1, "memory": "768m", "envSecretKeyRefs": {"LATE": {"name": secret, "key": "word"}}}
    pool = new_pool(
        "blocked",
        "connect",
        replicas={"min": 1, "max": 1},
        sparkApplicationTemplate={"spec": template(CONNECT_CLASS, driver=driver)},
    )
    reason = "jsonpath={.status.conditions[?(@.type=='Ready')].reason}"
    kubectl("wait", "ssp", pool, f"--for={reason}=StartBlocked", "--timeout=60s")
    heading, row = (line.split() for line in kubectl("get", "ssp", pool).splitlines())
    assert dict(zip(heading, row))["REASON"] == "StartBlocked", row
    words = f'(CreateContainerConfigError: secret "{secret}" not found). It goes on when that is over.'
    message = condition(thing("ssp", pool), "Ready")["message"]
    assert message.startswith(f"Instance {pool}-0 has been starting since ") and message.endswith(words), message
    assert "Warning StartBlocked" in story(pool) and words in story(pool), story(pool)
    kubectl("create", "secret", "generic", secret, "--from-literal=word=now")
    try:
        kubectl("wait", "ssp", pool, "--for=condition=Ready", "--timeout=90s")
        kubectl("wait", "ssp", pool, "--for=jsonpath={.status.readyReplicas}=1", "--timeout=5s")
        kubectl("wait", "ssp", pool, "--for=condition=Scaled", "--timeout=5s")
    finally:
        kubectl("delete", "secret", secret)


def test_another_policy_restarts_nothing(new_pool, kubectl, thing, instances, eventually):
    pool = new_pool("policy", "connect", replicas={"min": 1, "max": 2})
    eventually(lambda: instances(pool) == {f"{pool}-0": "Running"}, 90, "it runs")
    policy = {"sessionPolicy": {"defaultSessionConf": {"spark.sql.shuffle.partitions": "7"}}}
    kubectl("patch", "ssp", pool, "--type=merge", "-p", json.dumps({"spec": policy}))
    generation = thing("ssp", pool)["metadata"]["generation"]
    eventually(lambda: thing("ssp", pool)["status"]["observedGeneration"] == generation, 10, "it is known")
    assert instances(pool) == {f"{pool}-0": "Running"}
    assert condition(thing("ssp", pool), "UpToDate")["status"] == "True"


def test_a_template_that_crashes_is_tried_again_later_and_a_corrected_one_at_once(
    new_pool, kubectl, thing, objects, instances, change_template, eventually
):
    broken = template(CONNECT_CLASS, sparkConf={"spark.connect.grpc.interceptor.classes": "org.example.NoInterceptor"})
    pool = new_pool(
        "crashing", "connect", replicas={"min": 2, "max": 3}, sparkApplicationTemplate={"spec": broken}
    )
    most = 0

    def failures() -> int:
        nonlocal most
        alive = [it for it in instances(pool).values() if it != "Failed"]
        most = max(most, len(alive))
        return thing("ssp", pool)["status"].get("consecutiveFailures", 0)

    # Two at a time: each round counts once, and waits twice as long as the one before.
    eventually(lambda: failures() == 2, 120, "two rounds have failed")
    assert most <= 2
    scaled = condition(thing("ssp", pool), "Scaled")
    assert (scaled["status"], scaled["reason"]) == ("False", "BackingOff"), scaled
    assert "2 instances wanted" in scaled["message"] and "next attempt at" in scaled["message"], scaled
    eventually(
        lambda: "Its driver's log ends:" in condition(thing("ssp", pool), "Ready")["message"], 20, "the log's end is told"
    )
    assert "org.example.NoInterceptor" in condition(thing("ssp", pool), "Ready")["message"]

    change_template(pool)
    eventually(lambda: list(instances(pool).values()).count("Running") == 2, 90, "the corrected template runs")
    status = thing("ssp", pool)["status"]
    assert status.get("consecutiveFailures", 0) == 0 and status["readyReplicas"] == 2
