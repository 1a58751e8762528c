"""Sessions whose driver dies, as by the kernel's memory killer: in the middle of a query, and between two."""

import re
import subprocess
import time

import pytest

from clients import NAMES, condition

JOB = """SELECT concat('job', '-done'), count(slept) FROM (
    SELECT java_method('java.lang.Thread', 'sleep', 1000L + id % 1) AS slept FROM range(0, 60, 1, 1))""".replace("\n", "")
CHANGED = "[INVALID_HANDLE.SESSION_CHANGED] Instance {}, which held this session, is gone. Start a new session."
GONE = (
    "Instance {}, which held this connection, is gone. Connect again: the session goes on with another instance, without "
    "its temporary views and cached data."
)


@pytest.fixture
def pod_failed(environment):
    """pod_failed(instance) -> a process that ends when the driver Pod of the instance has failed, or is gone."""

    def watch(pod: str) -> subprocess.Popen:
        argv = [environment["KUBECTL"], f"--kubeconfig={environment['KUBECONFIG']}", "wait", f"pod/{pod}"]
        return subprocess.Popen([*argv, "--for=jsonpath={.status.phase}=Failed", "--timeout=60s"], stdout=subprocess.DEVNULL)

    return watch


@pytest.mark.parametrize("query", ["between queries", "in a query"])
def test_pyspark_hears_that_the_driver_is_gone(
    query, new_pool, shells, remote_url, kill_driver, pod_failed, objects, thing, users
):
    pool = new_pool("lost", "connect")
    instance = f"{pool}-0"
    shell = shells("pyspark", remote_url(users[0], host=pool + NAMES))
    shell.says("SELECT concat('first', '-done')", "first-done", 90)
    ((name, pod),) = [
        (session["metadata"]["name"], pods["metadata"]["name"])
        for session in objects("sis", f"--field-selector=spec.pool={pool}")
        for pods in objects("pods", f"-lsparkinteractive.io/pool={pool}")
    ]
    if query == "in a query":
        shell.say(JOB)
        time.sleep(1)  # it runs
    watch = pod_failed(pod)
    killed = time.monotonic()
    kill_driver(instance)
    watch.wait(30)
    failed = time.monotonic()
    if query == "between queries":
        shell.say("SELECT 1")
    told = shell.fails(30)
    if query == "in a query" and "RPC that terminated with" in told:
        # The answer had begun, and Envoy can but cut it off: words come with the next call.
        shell.say("SELECT 1")
        told = shell.fails(30)
    heard = time.monotonic()
    print(f"{query}: Pod failed {failed - killed:.2f} s after SIGKILL, client told {heard - failed:.2f} s after that: {told}")
    assert told.endswith(CHANGED.format(instance))
    assert heard - failed < 5

    status = thing("sis", name)["status"]
    ready = condition({"status": status}, "Ready")
    assert (status["state"], ready["reason"]) == ("Terminated", "InstanceLost")
    assert ready["message"] == f"Instance {instance}, which held this session, is gone. Start a new session."

    shell.say("!spark = builder.getOrCreate()")
    shell.says("SELECT concat('again', '-done')", "again-done", 90)
    (alive,) = objects("sis", f"--field-selector=spec.pool={pool},status.state=Active")
    assert alive["status"]["assignedInstance"] == f"{pool}-1"


@pytest.mark.parametrize("query", ["between queries", "in a query"])
def test_a_jdbc_client_hears_that_the_driver_is_gone(query, new_pool, shells, kill_driver, objects, thing, eventually, users):
    pool = new_pool("lost", "thrift")
    instance = f"{pool}-0"
    shell = shells("pyhive", users[0], host=pool + NAMES)
    shell.says("SELECT concat('first', '-done')", "first-done", 90)
    (session,) = objects("sis", f"--field-selector=spec.pool={pool}")
    if query == "in a query":
        shell.say(JOB)
        time.sleep(1)  # it runs
    kill_driver(instance)
    if query == "in a query":
        print(shell.fails(30))
    eventually(lambda: thing("sis", session["metadata"]["name"])["status"].get("assignedInstance") != instance, 10, "it moves")
    shell.say("SELECT 1")
    told = shell.fails(90)
    assert GONE.format(instance) in told, told

    again = shells("pyhive", users[0], host=pool + NAMES)
    again.says("SELECT concat('again', '-done')", "again-done", 90)
    status = thing("sis", session["metadata"]["name"])["status"]
    assert (status["state"], status["assignedInstance"]) == ("Active", f"{pool}-1")
    assert re.search("InstanceLost|is gone|failed", str(objects("events", f"--field-selector=involvedObject.name={pool}")))
