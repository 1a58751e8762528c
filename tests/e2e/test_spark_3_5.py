"""Servers of Spark 3.5: they load the interceptor, have no ReleaseSession, and keep sessions as they please.

Two ends take more than a minute: what they look at begins together, when nobody else needs the driver's only core. What
kills the driver comes after them.
"""

import json
import time
import uuid

import pytest

from clients import MAIN_CLASS, NAMES, Conversation, condition, fetch, template
from connect_wire import again, config_get, config_set
from test_auth_forms import keycloak_user  # noqa: F401  (a fixture)
from test_identity import driver, through_envoy  # noqa: F401  (fixtures)
from test_life_ends import CLOSED, DELETED, JOB, TOO_OLD, UI, WORD, ended, named  # noqa: F401  (two fixtures)

PARTITIONS = "spark.sql.shuffle.partitions"
LOCKED = "spark.sql.autoBroadcastJoinThreshold"
MEMORY = "spark.executor.memory"
POLICY = {
    "defaultSessionConf": {PARTITIONS: "11", LOCKED: "1111", MEMORY: "4g"},
    "protectedConf": [LOCKED],
    "idleTimeoutMinutes": 1,
}


def new(module_pool, kind: str) -> str:
    """A pool of one driver, which shows its jobs."""
    spec = {"spec": template(MAIN_CLASS[kind], sparkVersion="3.5.7", sparkConf=UI)}
    return module_pool("old", kind, replicas={"min": 1, "max": 1}, sparkApplicationTemplate=spec, sessionPolicy=POLICY)


@pytest.fixture(scope="module")
def pool(module_pool, pyspark_3_5) -> str:
    return new(module_pool, "connect")


@pytest.fixture(scope="module")
def thrift(module_pool, pyspark_3_5) -> str:
    return new(module_pool, "thrift")


@pytest.fixture(scope="module")
def begin(module_shells, remote_url, pool, pyspark_3_5, users):
    """begin(python=PySpark 3.5's) -> a session of PySpark that has run a query, and the name of its object."""

    def call(python: str = pyspark_3_5) -> tuple[Conversation, str]:
        session_id = str(uuid.uuid4())
        url = remote_url(users[0], more={"session_id": session_id}, host=pool + NAMES)
        shell = module_shells("pyspark", url, python=python)
        shell.says("!print(spark.range(3).count(), 'rows', flush=True)", "3 rows\n", 90)
        return shell, f"{pool}-{session_id}"

    return call


@pytest.fixture(scope="module")
def unused(begin) -> tuple[Conversation, str]:
    return begin()


@pytest.fixture(scope="module")
def busy(begin) -> tuple[Conversation, str]:
    shell, name = begin()
    shell.say(JOB.replace("range(0, 60,", "range(0, 600,"))
    return shell, name


def running_jobs(session: dict) -> list[str]:
    """What the driver itself says is running."""
    api = f"http://{session['status']['endpoint'].rpartition(':')[0]}:4040/api/v1/applications"
    (application,) = json.loads(fetch(api))
    return [job["name"] for job in json.loads(fetch(f"{api}/{application['id']}/jobs?status=running"))]


@pytest.fixture
def runs(thing, eventually):
    """runs(shell, name, end="") has the shell run JOB, and returns when Spark does."""

    def call(shell, name: str, end: str = "") -> dict:
        session = thing("sis", name)
        shell.say(JOB + end)
        eventually(lambda: running_jobs(session), 30, "the job runs")
        return session

    return call


def test_a_login_is_the_user_of_the_session(begin, pool, thing, users):
    _, name = begin()
    session = thing("sis", name)
    assert (session["spec"]["user"], session["status"]["state"]) == (users[0], "Active")
    pages = fetch(f"http://{session['status']['endpoint'].rpartition(':')[0]}:4040/connect/")
    assert session["status"]["sessionId"] in pages and f">{users[0]}<" in pages.replace(" ", "").replace("\n", ""), pages
    assert condition(thing("ssp", pool), "IdentityEnforced")["status"] == "True"


def test_a_message_cannot_name_another_user_or_session(through_envoy, users):  # noqa: F811
    alice, bob = users
    mine, victim = str(uuid.uuid4()), str(uuid.uuid4())
    through_envoy(bob, "Config", config_set(victim, "spark.sql.session.mine", "bob's")).pairs()
    forged = config_set(mine, "spark.sql.session.mine", "x" * (20 << 20)) + again(session=victim, user=bob)
    expected = f"This ConfigRequest names another session than the one that was checked, {mine}."
    assert through_envoy(alice, "Config", forged).refused("PERMISSION_DENIED") == expected
    question = config_get(victim, "spark.sql.session.mine")
    assert through_envoy(bob, "Config", question).pairs() == {"spark.sql.session.mine": "bob's"}


def test_a_session_has_the_configuration_of_its_pool(begin, thing):
    shell, name = begin()
    shell.says(f"!print('conf', spark.conf.get('{PARTITIONS}'), spark.conf.get('{LOCKED}'), flush=True)", "conf 11 1111\n", 20)
    conf = thing("sis", name)["status"]["conf"]
    assert conf["applied"] == sorted([PARTITIONS, LOCKED])
    assert [refused["key"] for refused in conf["refused"]] == [MEMORY]


def test_kubectl_delete_ends_the_query_that_runs(begin, runs, kubectl, eventually):
    shell, name = begin()
    session = runs(shell, name)
    before = time.monotonic()
    kubectl("delete", "sis", name)
    assert time.monotonic() - before < 10
    eventually(lambda: not running_jobs(session), 5, "the query is over on Spark")
    shell.fails(15)
    shell.say("SELECT 1")
    assert shell.fails(15).endswith(f"{CLOSED}{DELETED}")


def test_spark_stop_of_a_newer_client_ends_what_still_runs(begin, environment, thing, ended, eventually):  # noqa: F811
    """PySpark 4.1 does much against such a server, but not `spark.sql`: Spark's protocol has changed there."""
    shell, name = begin(environment["PYTHON"])
    session = thing("sis", name)
    sleeps = "spark.range(0, 60, 1, 1).selectExpr(\"java_method('java.lang.Thread', 'sleep', 1000L + id % 1)\")"
    shell.say(f"!import threading; threading.Thread(target={sleeps}.collect, daemon=True).start()")
    eventually(lambda: running_jobs(session), 30, "the job runs")
    shell.say("!spark.stop()")
    assert ended(name, 15) == ("Released", "The client ended the session.")
    eventually(lambda: not running_jobs(session), 5, "the query is over on Spark")


def test_spark_stop_of_pyspark_3_5_tells_nobody(begin, thing):
    """As README's table of versions says. What ends such a session is its idle timeout."""
    shell, name = begin()
    shell.says("!spark.stop(); print('stopped', flush=True)", "stopped\n", 20)
    status = thing("sis", name)["status"]
    assert status["state"] == "Active" and "releasedAt" not in status


def test_sessions_begin_whose_end_takes_a_while(unused, busy, thing):
    assert {thing("sis", name)["status"]["state"] for _, name in (unused, busy)} == {"Active"}


def test_a_session_that_nobody_uses_ends(unused, ended):  # noqa: F811
    shell, name = unused
    reason, message = ended(name, 90)
    assert reason == "IdleTimeout"
    shell.say("SELECT 1")
    assert shell.fails(15).endswith(f"{CLOSED}{message}")


def test_the_maximum_lifetime_ends_the_query_that_runs(busy, thing, pool, kubectl, ended, eventually):  # noqa: F811
    shell, name = busy
    session = thing("sis", name)
    assert running_jobs(session), "it runs for longer than a session may be unused"

    def lifetime(minutes: int | None) -> None:
        policy = {"spec": {"sessionPolicy": {"maxLifetimeMinutes": minutes}}}
        kubectl("patch", "ssp", pool, "--type=merge", "-p", json.dumps(policy))

    lifetime(1)
    try:
        assert ended(name) == ("LifetimeExceeded", TOO_OLD)
    finally:
        lifetime(None)
    eventually(lambda: not running_jobs(session), 5, "the query is over on Spark")
    shell.fails(15)
    shell.say("SELECT 1")
    assert shell.fails(15).endswith(f"{CLOSED}{TOO_OLD}")


def test_a_lost_driver_is_told(begin, thing, kill_driver, ended):  # noqa: F811
    shell, name = begin()
    instance = thing("sis", name)["status"]["assignedInstance"]
    kill_driver(instance)
    reason, message = ended(name, 30)
    assert (reason, message) == ("InstanceLost", f"Instance {instance}, which held this session, is gone. Start a new session.")
    shell.say("SELECT 1")
    told = shell.fails(60)
    assert message in told and "SESSION_CHANGED" in told, told


# Thrift


def test_a_jdbc_user_is_who_they_logged_in_as(beeline, thrift, users):
    ran = beeline("SELECT current_user(), version()", users[1], host=thrift + NAMES)
    (user, version) = ran.succeeded().rows()[1]
    assert user == users[1] and version.startswith("3.5.7 ")


def test_a_jdbc_user_by_a_mail_address_is_nobody_else(beeline, thrift, users, keycloak_user):  # noqa: F811
    user, password = keycloak_user(f"{users[0]}@corp.example", "a-password")
    ran = beeline("SELECT current_user(), url_decode(current_user())", user, password, host=thrift + NAMES)
    assert ran.succeeded().rows()[1] == [f"{users[0]}%40corp.example", user]


def test_jdbc_sessions_have_the_configuration_of_their_pool(beeline, thrift, users):
    sql = f"SET {PARTITIONS}; SET {LOCKED}"
    rows = beeline(sql, users[0], options=f"?{LOCKED}=5", host=thrift + NAMES).succeeded().rows()
    assert [row for row in rows if row[0] != "key"] == [[PARTITIONS, "11"], [LOCKED, "1111"]]


@pytest.mark.parametrize("program", ["beeline", "pyhive"])
def test_a_jdbc_session_opens_and_closes(program, shells, thrift, named, ended, users):  # noqa: F811
    shell, end = shells(program, users[0], path=f"cliservice/{program}", host=thrift + NAMES), ";" if program == "beeline" else ""
    shell.says(WORD.format(word="first") + end, "first-done", 90)
    session = named(thrift, users[0], program)
    assert len(session["status"]["connections"]) == 1
    shell.finish(30)
    assert ended(session["metadata"]["name"], 5) == ("Released", "The client ended the session.")


def test_kubectl_delete_ends_the_query_of_a_jdbc_session(shells, thrift, named, runs, kubectl, eventually, users):  # noqa: F811
    shell = shells("beeline", users[0], path="cliservice/deleted", host=thrift + NAMES)
    shell.says(WORD.format(word="first") + ";", "first-done", 90)
    name = named(thrift, users[0], "deleted")["metadata"]["name"]
    session = runs(shell, name, ";")
    kubectl("delete", "sis", name)
    assert DELETED in shell.fails(15)
    eventually(lambda: not running_jobs(session), 5, "the query is over on Spark")
