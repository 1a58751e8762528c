"""Sessions whose driver dies, as by the kernel's memory killer: in the middle of a query, and between two."""

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from clients import NAMES, Conversation, condition
from connect_wire import call, config_get

JOB = """SELECT concat('job', '-done'), count(slept) FROM (
    SELECT java_method('java.lang.Thread', 'sleep', 1000L + id % 1) AS slept FROM range(0, 60, 1, 1))""".replace("\n", "")
CHANGED = "[INVALID_HANDLE.SESSION_CHANGED] Instance {}, which held this session, is gone. Start a new session."
GONE = (
    "Instance {}, which held this connection, is gone. Connect again: the session goes on with another instance, without "
    "its temporary views and cached data."
)
BROKEN_OFF = (
    "The Spark server cannot be reached, or broke off before it had answered: it is not known whether it did what was "
    "asked. Try again; if it is gone, the answer says so."
)


@pytest.fixture
def pod_fails(environment):
    """pod_fails(pod) -> a function that waits until the driver Pod has failed, and tells when a watch showed it."""
    watches: list[Conversation] = []

    def failed_at(watch: Conversation) -> float:
        watch.until("Failed", 30)
        return time.monotonic()

    with ThreadPoolExecutor() as threads:

        def begin(pod: str) -> Callable[[], float]:
            argv = [environment["KUBECTL"], f"--kubeconfig={environment['KUBECONFIG']}", "get", "pod", pod, "--watch"]
            watches.append(Conversation([*argv, "-o", r"jsonpath={.status.phase}{'\n'}"]))
            watches[-1].until("Running", 30)
            return threads.submit(failed_at, watches[-1]).result

        yield begin
        for watch in watches:
            watch.end()


@pytest.fixture
def hears(environment, remote_url, users):
    """hears(host, session_id, words) asks without a pause until the answer has the words, and tells when that was. PySpark
    would pause between its attempts."""

    def ask(host: str, session_id: str, words: str) -> float:
        login = remote_url(users[0]).partition("token=")[2].replace("%3D", "=")
        address, question = f"127.0.0.1:{environment.port}", config_get(session_id, "spark.app.name")
        deadline = time.monotonic() + 30
        while True:
            answer = call(address, "Config", question, [("authorization", f"Bearer {login}")], host)
            told = time.monotonic()
            if words in answer.text:
                return told
            assert told < deadline, answer

    return ask


@pytest.mark.parametrize("query", ["between queries", "in a query"])
def test_pyspark_hears_that_the_driver_is_gone(
    query, new_pool, shells, remote_url, kill_driver, pod_fails, hears, objects, thing, users
):
    pool = new_pool("lost", "connect")
    instance = f"{pool}-0"
    shell = shells("pyspark", remote_url(users[0], host=pool + NAMES))
    shell.says("SELECT concat('first', '-done')", "first-done", 90)
    ((session, pod),) = [
        (session, pods["metadata"]["name"])
        for session in objects("sis", f"--field-selector=spec.pool={pool}")
        for pods in objects("pods", f"-lsparkinteractive.io/pool={pool}")
    ]
    name = session["metadata"]["name"]
    if query == "in a query":
        shell.say(JOB)
        time.sleep(1)  # it runs
    fails = pod_fails(pod)
    killed = time.monotonic()
    kill_driver(instance)
    if query == "between queries":
        heard = hears(pool + NAMES, session["status"]["sessionId"], CHANGED.format(instance))
        failed = fails()
        shell.say("SELECT 1")
        told = shell.fails(30)
    else:
        failed = fails()
        told = shell.fails(30)
        if "RPC that terminated with" in told:
            # The answer had begun, and Envoy can but cut it off: words come with the next call.
            shell.say("SELECT 1")
            told = shell.fails(30)
        heard = time.monotonic()
    print(f"{query}: Pod failed {failed - killed:.3f} s after SIGKILL, client told {heard - failed:.3f} s after that: {told}")
    assert told.endswith(CHANGED.format(instance))
    assert heard - failed < {"between queries": 1, "in a query": 5}[query]

    status = thing("sis", name)["status"]
    ready = condition({"status": status}, "Ready")
    assert (status["state"], ready["reason"]) == ("Terminated", "InstanceLost")
    assert ready["message"] == f"Instance {instance}, which held this session, is gone. Start a new session."

    shell.say("!spark = builder.getOrCreate()")
    shell.says("SELECT concat('again', '-done')", "again-done", 90)
    (alive,) = objects("sis", f"--field-selector=spec.pool={pool},status.state=Active")
    assert alive["status"]["assignedInstance"] == f"{pool}-1"


@pytest.mark.parametrize(["client", "query"], [("beeline", "between queries"), ("pyhive", "in a query")])
def test_a_jdbc_client_hears_that_the_driver_is_gone(
    client, query, new_pool, shells, kill_driver, objects, thing, eventually, users
):
    pool = new_pool("lost", "thrift")
    instance = f"{pool}-0"
    shell, end = shells(client, users[0], host=pool + NAMES), {"beeline": ";", "pyhive": ""}[client]
    shell.says("SELECT concat('first', '-done')" + end, "first-done", 90)
    (session,) = objects("sis", f"--field-selector=spec.pool={pool}")
    if query == "in a query":
        shell.say(JOB + end)
        time.sleep(1)  # it runs
    kill_driver(instance)
    if query == "in a query":
        told = shell.fails(30)
        assert BROKEN_OFF in told, told
    eventually(lambda: thing("sis", session["metadata"]["name"])["status"].get("assignedInstance") != instance, 10, "it moves")
    shell.say("SELECT 1" + end)
    told = shell.fails(90)
    if client == "beeline" and BROKEN_OFF in told:
        # It was still about to clean up after its first statement.
        told = shell.fails(30)
    assert GONE.format(instance) in told, told

    again = shells("pyhive", users[0], host=pool + NAMES)
    again.says("SELECT concat('again', '-done')", "again-done", 90)
    status = thing("sis", session["metadata"]["name"])["status"]
    assert (status["state"], status["assignedInstance"]) == ("Active", f"{pool}-1")
    assert re.search("InstanceLost|is gone|failed", str(objects("events", f"--field-selector=involvedObject.name={pool}")))
