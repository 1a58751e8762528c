"""What each client of a named session has on Spark ends with it, whoever ends it and in whatever way."""

import urllib.parse
import uuid

import pyspark.sql.connect.proto as pb
import pytest
from connect_wire import Answer, call, config_get, head

RUNS = """
query = spark.readStream.format("rate").load().writeStream.format("noop").start()
print("runs", query.isActive)
"""
CLOSED = "INVALID_HANDLE.SESSION_CLOSED"
MOST = 64


@pytest.fixture
def named() -> str:
    return f"etl-{uuid.uuid4().hex[:5]}"


@pytest.fixture
def program(pyspark, remote_url, users, named):
    """program(script, **pyspark's) runs it as a client of the named session -> its Spark session."""

    def run(script: str, stop: bool = False) -> str:
        session_id = str(uuid.uuid4())
        url = remote_url(users[0], more={"x-spark-session": named, "session_id": session_id})
        pyspark(script, url, stop=stop).succeeded()
        return session_id

    return run


@pytest.fixture
def wire(environment, remote_url, users, named):
    """wire(method, message) sends these bytes to Envoy as a call of the named session."""
    login = urllib.parse.unquote(remote_url(users[0]).partition("token=")[2])
    headers = [("authorization", f"Bearer {login}"), ("x-spark-session", named)]

    def send(method: str, message: bytes) -> Answer:
        return call(f"127.0.0.1:{environment.port}", method, message, headers, "localhost")

    return send


@pytest.fixture
def session(objects, users, named):
    def find() -> dict:
        of_user = objects("sis", f"--field-selector=spec.user={users[0]},spec.pool=connect")
        (found,) = [session for session in of_user if session["spec"].get("name") == named]
        return found

    return find


def test_a_release_that_spark_refuses_leaves_nothing_behind(program, wire, session, on_spark, eventually, users):
    """The operator reads the head of a call. Spark reads all of it, and here the rest is no text."""
    first, second = program(RUNS), program(RUNS)
    name = session()["metadata"]["name"]
    asks = {of: on_spark(name, of) for of in (first, second)}
    assert {ask().code for ask in asks.values()} == {"OK"}
    for leaves in (first, second):
        refused = pb.ReleaseSessionRequest(**head(leaves, users[0])).SerializeToString() + b"\x1a\x02\xff\xff"
        assert wire("ReleaseSession", refused).code != "OK", "Spark takes it: this tests nothing"
        eventually(lambda: CLOSED in asks[leaves]().text, 20, "it is released all the same, with what ran in it")
    assert session()["status"]["clientSessionIds"] == [second]
    eventually(lambda: session()["status"]["state"] == "Terminated", 20, "the last one ends the session")


def test_a_clone_that_nobody_uses_ends_with_the_session(program, session, on_spark, kubectl, eventually):
    original = program("spark.range(1).collect(); spark.cloneSession()")
    found = session()
    status, name = found["status"], found["metadata"]["name"]
    (clone,) = [of for of in status["clientSessionIds"] if of != original]
    assert status["clonedSessionIds"] == [clone]
    ask = on_spark(name, clone)
    assert ask().code == "OK"
    kubectl("delete", "sis", name)
    assert CLOSED in ask().text


def test_the_client_that_makes_room_is_one_in_which_nothing_runs(program, wire, session, on_spark, eventually, users):
    busy = program(RUNS)
    others = [str(uuid.uuid4()) for _ in range(MOST)]
    for joins in others[:-1]:
        answer = wire("Config", config_get(joins, "spark.app.name", user=users[0]))
        assert answer.code == "OK", answer
    found = session()
    assert found["status"]["clientSessionIds"] == [busy, *others[:-1]]
    name = found["metadata"]["name"]
    asks = {of: on_spark(name, of) for of in (busy, others[0], others[1])}
    answer = eventually(lambda: _joined(wire, others[-1], users[0]), 30, "the rate lets another one join")
    assert answer.code == "OK", answer
    assert session()["status"]["clientSessionIds"] == [busy, *others[1:]]
    assert CLOSED in asks[others[0]]().text, "nothing of it is left on the driver"
    assert (asks[busy]().code, asks[others[1]]().code) == ("OK", "OK")


def _joined(wire, session_id: str, user: str) -> Answer | None:
    answer = wire("Config", config_get(session_id, "spark.app.name", user=user))
    return None if answer.code == "UNAVAILABLE" else answer
