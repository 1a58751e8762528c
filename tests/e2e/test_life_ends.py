"""How sessions end: each end is told to the client, written to the object, and carried out on Spark.

Three of them take more than a minute, so what they look at begins before all others, and is looked at last.
"""

import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import pyspark.sql.connect.proto as pb
import pytest

from clients import NAMES, THRIFT_CLASS, Conversation, condition, fetch, template
from connect_wire import Answer, call, head

UI = {"spark.ui.enabled": "true", "spark.ui.port": "4040"}
# What they print does not stand in the queries themselves, for a terminal that repeats what it is told.
SLEEP = "SELECT concat('slow', '-done'), java_method('java.lang.Thread', 'sleep', {seconds}000L)"
# The same as a job that Spark can cancel: sixty seconds in one task.
JOB = """SELECT concat('job', '-done'), count(slept) FROM (
    SELECT java_method('java.lang.Thread', 'sleep', 1000L + id % 1) AS slept FROM range(0, 60, 1, 1))""".replace("\n", "")
WORD = "SELECT concat('{word}', '-done')"
NOT_USED = r"The session ended because it was not used for 1 min \(since [0-9TZ:-]+\)\. Start a new session\."
TOO_OLD = "The session ended because it had reached its maximum lifetime of 1 min. Start a new one."
DELETED = "The session was deleted (kubectl delete). Start a new session."
CLOSED = "[INVALID_HANDLE.SESSION_CLOSED] "


@dataclass(frozen=True)
class Began:
    connect: str
    thrift: str
    unused: Conversation
    vanished: Conversation
    busy: Conversation
    unused_jdbc: Conversation
    busy_jdbc: Conversation
    ids: dict[str, str]
    # One of the two, as it was then.
    thrift_session: dict
    # What is said of the one whose client vanished, change by change.
    watch: Conversation
    # Asks the driver itself for a Connect session.
    on_spark: dict[str, Callable[[], Answer]]


@pytest.fixture(scope="module")
def began(module_pool, module_shells, module_watch, remote_url, objects, on_spark, users) -> Began:
    """Sessions in pools where they may be unused for a minute: some of them are in use, others never again."""
    policy = {"sessionPolicy": {"idleTimeoutMinutes": 1}}
    connect = module_pool("ends", "connect", **policy)
    shown = {"spec": template(THRIFT_CLASS, sparkConf=UI)}
    thrift = module_pool("ends", "thrift", sparkApplicationTemplate=shown, **policy)
    ids = {name: str(uuid.uuid4()) for name in ("unused", "vanished", "busy")}
    shells = {
        name: module_shells("pyspark", remote_url(users[0], more={"session_id": of}, host=connect + NAMES))
        for name, of in ids.items()
    }
    jdbc = {
        name: module_shells(program, users[0], path=f"cliservice/{name}", host=thrift + NAMES)
        for name, program in {"unused_jdbc": "beeline", "busy_jdbc": "pyhive"}.items()
    }
    for name, shell in {**shells, **jdbc}.items():
        shell.say(WORD.format(word=name) + end_of(name))
    for name, shell in {**shells, **jdbc}.items():
        shell.until(f"{name}-done", 90)
    shells["vanished"].end()
    for shell in (shells["busy"], jdbc["busy_jdbc"]):
        shell.say(SLEEP.format(seconds=80))
        shell.say(WORD.format(word="next"))
    shells["busy"].say(SLEEP.format(seconds=600))
    asks = {name: on_spark(f"{connect}-{of}") for name, of in ids.items()}
    watch = module_watch(f"{connect}-{ids['vanished']}")
    thrift_session = objects("sis", f"--field-selector=spec.pool={thrift}")[0]
    return Began(connect, thrift, **shells, **jdbc, ids=ids, on_spark=asks, thrift_session=thrift_session, watch=watch)


def online(session: dict) -> int:
    """How many sessions the page of its Thrift Server shows as open."""
    address = session["status"]["endpoint"].rpartition(":")[0]
    page = fetch(f"http://{address}:4040/sqlserver/")
    return int(re.search(r"(\d+)\s+session\(s\) are online", page)[1])


def its_id(shell: Conversation) -> str:
    """Has PySpark's session begin -> the id that PySpark has chosen."""
    shell.says("!spark.range(1).collect(); print('id', spark.session_id, 'is', flush=True)", " is\n", 90)
    return re.search("^id (.*) is$", shell.text, re.M)[1]


def end_of(name: str) -> str:
    return ";" if name == "unused_jdbc" else ""


@pytest.fixture(scope="module")
def ended(thing, eventually):
    """ended(name, seconds) -> reason and message of a session, once it is Terminated."""

    def wait(name: str, seconds: float = 10) -> tuple[str, str]:
        def terminated():
            found = thing("sis", name)
            return found if found.get("status", {}).get("state") == "Terminated" else None

        status = eventually(terminated, seconds, f"{name} is Terminated")["status"]
        ready = condition({"status": status}, "Ready")
        assert ready["status"] == "False"
        assert status["createdAt"] <= status["finishedAt"], status
        return ready["reason"], ready["message"]

    return wait


@pytest.fixture
def named(objects):
    """named(pool, user, name) -> the object of a Thrift session."""

    def find(pool: str, user: str, name: str | None = None) -> dict:
        of_user = objects("sis", f"--field-selector=spec.user={user},spec.pool={pool}")
        (found,) = [session for session in of_user if session["spec"].get("name") == name]
        return found

    return find


def test_sessions_begin_whose_end_takes_a_while(began, thing):
    for of in began.ids.values():
        status = thing("sis", f"{began.connect}-{of}")["status"]
        assert (status["state"], status["sessionId"]) == ("Active", of)
    assert {ask().code for ask in began.on_spark.values()} == {"OK"}
    assert online(began.thrift_session) == 2


@pytest.mark.parametrize("query", ["between queries", "in a query"])
@pytest.mark.parametrize("client", ["pyspark", "beeline"])
def test_kubectl_delete(client, query, shells, remote_url, kubectl, thing, on_spark, named, users):
    if client == "pyspark":
        shell, end = shells("pyspark", remote_url(users[0])), ""
        name = f"connect-{its_id(shell)}"
        ask = on_spark(name)
        assert ask().code == "OK"
    else:
        shell, end = shells("beeline", users[0], path="cliservice/deleted"), ";"
        shell.says(WORD.format(word="first") + end, "first-done", 90)
        name = named("thrift", users[0], "deleted")["metadata"]["name"]
    if query == "in a query":
        shell.say(JOB + end)
        time.sleep(2)  # it runs
    before = time.monotonic()
    kubectl("delete", "sis", name)
    took = time.monotonic() - before
    print(f"kubectl delete of {client}'s session {query}: {took:.1f} s")
    assert took < 10
    assert not thing("sis", name)
    if query == "between queries":
        shell.say("SELECT 1" + end)
    told = shell.fails(15)
    if client == "beeline":
        assert DELETED in told, told
        return
    assert told.endswith(f"{CLOSED}{DELETED}"), told
    assert "INVALID_HANDLE.SESSION_CLOSED" in ask().text
    shell.say("!spark = builder.getOrCreate()")
    shell.says(WORD.format(word="again"), "again-done", 30)


def test_spark_stop_ends_the_session_for_good(shells, remote_url, environment, thing, ended, on_spark, users):
    shell = shells("pyspark", remote_url(users[0]))
    session_id = its_id(shell)
    name = f"connect-{session_id}"
    uid, ask = thing("sis", name)["metadata"]["uid"], on_spark(name)
    shell.say("!spark.stop()")
    shell.says("!print('stopped', flush=True)", "stopped", 30)
    assert ended(name, 3) == ("Released", "The client ended the session.")
    status = thing("sis", name)["status"]
    assert status["createdAt"] <= status["releasedAt"] <= status["finishedAt"]
    assert "INVALID_HANDLE.SESSION_CLOSED" in ask().text

    # A client cleans up in the background: its last words may come late.
    late = pb.ReleaseExecuteRequest(**head(session_id), operation_id=str(uuid.uuid4())).SerializeToString()
    login = remote_url(users[0]).partition("token=")[2].replace("%3D", "=")
    answer = call(f"127.0.0.1:{environment.port}", "ReleaseExecute", late, [("authorization", f"Bearer {login}")], "localhost")
    assert (answer.code, answer.text) == ("INTERNAL", f"{CLOSED}The client ended the session.")
    assert thing("sis", name)["metadata"]["uid"] == uid and ended(name) == ("Released", "The client ended the session.")

    shell.say("!spark = builder.getOrCreate()")
    shell.says(WORD.format(word="again"), "again-done", 30)
    assert thing("sis", name)["metadata"]["uid"] == uid


def test_an_ended_session_goes_when_the_pool_says_so(pyspark, remote_url, kubectl, thing, eventually, users):
    def keep(minutes: int | None) -> None:
        policy = {"spec": {"sessionPolicy": {"finishedTtlMinutes": minutes}}}
        kubectl("patch", "ssp", "connect", "--type=merge", "-p", json.dumps(policy))

    session_id = str(uuid.uuid4())
    url = remote_url(users[0], more={"session_id": session_id})
    keep(0)
    try:
        pyspark("spark.range(1).collect()", url).succeeded()
        eventually(lambda: not thing("sis", f"connect-{session_id}"), 5, "the object is gone")
        assert pyspark("spark.range(1).collect()", url).complaint().endswith(f"{CLOSED}The client ended the session.")
    finally:
        keep(None)


def test_a_jdbc_session_ends_with_its_last_connection(shells, thing, named, ended, users):
    shell = {program: shells(program, users[0], path="cliservice/shared") for program in ("beeline", "pyhive")}
    shell["beeline"].says(WORD.format(word="beeline") + ";", "beeline-done", 90)
    shell["pyhive"].says(WORD.format(word="pyhive"), "pyhive-done", 30)
    session = named("thrift", users[0], "shared")
    name, connections = session["metadata"]["name"], session["status"]["connections"]
    assert len(connections) == 2
    assert {connection["instance"] for connection in connections} == {session["status"]["assignedInstance"]}

    shell["beeline"].finish(30)
    status = thing("sis", name)["status"]
    assert status["state"] == "Active"
    assert len(status["connections"]) == 1 and status["connections"][0] in connections
    shell["pyhive"].says(WORD.format(word="still"), "still-done", 30)

    shell["pyhive"].finish(30)
    assert ended(name, 3) == ("Released", "The client ended the session.")


def test_a_session_that_nobody_uses_is_shown_as_idle(began):
    began.watch.until("Idle Not used since", 60)
    shown = re.search(r"^Idle (.*)$", began.watch.text, re.M)[1]
    assert re.fullmatch(r"Not used since [0-9TZ:-]+; ends at [0-9TZ:-]+ unless it is used\.", shown)


def test_one_that_its_vanished_client_left_ends_after_the_idle_timeout(began, ended):
    name = f"{began.connect}-{began.ids['vanished']}"
    reason, message = ended(name, 90)
    assert reason == "IdleTimeout" and re.fullmatch(NOT_USED, message)
    assert "INVALID_HANDLE.SESSION_CLOSED" in began.on_spark["vanished"]().text


def test_one_that_was_not_used_tells_pyspark_why_it_ended(began, thing, ended):
    name = f"{began.connect}-{began.ids['unused']}"
    reason, message = ended(name, 90)
    assert reason == "IdleTimeout" and re.fullmatch(NOT_USED, message)
    assert "INVALID_HANDLE.SESSION_CLOSED" in began.on_spark["unused"]().text
    began.unused.say("SELECT 1")
    assert began.unused.fails(10).endswith(f"{CLOSED}{message}")
    assert thing("sis", name)["status"]["state"] == "Terminated", "asking does not bring it back"


def test_one_that_was_not_used_tells_beeline_why_it_ended(began, named, ended, users):
    name = named(began.thrift, users[0], "unused_jdbc")["metadata"]["name"]
    reason, message = ended(name, 90)
    assert reason == "IdleTimeout" and re.fullmatch(NOT_USED, message)
    assert online(began.thrift_session) < 2, "it is closed on Spark"
    began.unused_jdbc.say("SELECT 1;")
    assert message in began.unused_jdbc.fails(10)


def test_a_query_that_runs_for_longer_than_a_session_may_be_unused_has_its_result(began):
    began.busy_jdbc.until("slow-done", 60)
    began.busy.until("slow-done", 60)
    for shell in (began.busy, began.busy_jdbc):
        shell.until("next-done", 30)


def test_a_session_that_is_used_ends_with_its_maximum_lifetime(began, kubectl, named, ended, users):
    busy_jdbc = named(began.thrift, users[0], "busy_jdbc")["metadata"]["name"]
    policy = '{"spec": {"sessionPolicy": {"maxLifetimeMinutes": 1}}}'
    kubectl("patch", "ssp", began.connect, began.thrift, "--type=merge", "-p", policy)
    for name in (f"{began.connect}-{began.ids['busy']}", busy_jdbc):
        assert ended(name) == ("LifetimeExceeded", TOO_OLD)
    assert began.busy.fails(10).endswith(f"{CLOSED}{TOO_OLD}")
    assert "INVALID_HANDLE.SESSION_CLOSED" in began.on_spark["busy"]().text
    assert online(began.thrift_session) == 0, "it is closed on Spark"
    began.busy_jdbc.say("SELECT 1")
    told = began.busy_jdbc.fails(10)
    assert TOO_OLD in told, told
    began.busy.say("!spark = builder.getOrCreate()")
    began.busy.say("SELECT 1")
    assert began.busy.fails(10).endswith(f"{CLOSED}{TOO_OLD}")
