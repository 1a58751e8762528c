"""Clients that wait for an instance: what they and their sessions' objects say meanwhile, and at the end of their patience."""

import base64
import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from google.rpc.error_details_pb2 import RetryInfo

from clients import CONNECT_CLASS, NAMES, run, template
from conftest import LOCAL
from connect_wire import Answer, call, config_get

HOLD = 3


@pytest.fixture(scope="module")
def short_holds(environment):
    """The operator holds requests of Connect clients for three seconds only."""

    def up(*arguments: str) -> None:
        run([LOCAL / "up", "--state", environment.state, "--no-query", *arguments], timeout=300).succeeded()

    settings = json.loads((environment.state / "environment.json").read_text())
    usual = [f"--operator-arg={argument}" for argument in settings["operator_args"]]
    up(*usual, f"--operator-arg=--connect-max-hold={HOLD}")
    yield
    up(*(usual or ["--operator-arg=--activity-interval=60"]))


class Gate:
    """A jar without content, which drivers whose template names its URL fetch before they serve: while the gate is
    closed they go on starting, however fast the machine is."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        opened = self._opened

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802, the name that http.server calls
                opened.wait()
                empty_archive = b"PK\x05\x06" + bytes(18)
                self.send_response(200)
                self.send_header("Content-Length", str(len(empty_archive)))
                self.end_headers()
                self.wfile.write(empty_archive)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/gate.jar"

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self._opened.clear()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    thread = threading.Thread(target=gate.server.serve_forever)
    thread.start()
    yield gate
    gate.open()
    gate.server.shutdown()
    gate.server.server_close()
    thread.join()


@pytest.fixture
def asks(environment):
    """asks(user, pool, session id) -> what a client hears that does not come back by itself, and after how many seconds."""

    def ask(user: str, pool: str, session_id: str) -> tuple[Answer, float]:
        login = base64.b64encode(f"{user}:{environment.password(user)}".encode()).decode()
        address, authority = f"127.0.0.1:{environment.port}", f"{pool}{NAMES}:{environment.port}"
        question = config_get(session_id, "spark.app.name", user=user)
        began = time.monotonic()
        answer = call(address, "Config", question, [("authorization", f"Basic {login}")], authority=authority)
        return answer, time.monotonic() - began

    return ask


def test_events_tell_what_a_session_has_waited_for(new_pool, pyspark, remote_url, objects, thing, users):
    pool = new_pool("waiting", "connect")
    session_id = str(uuid.uuid4())
    name = f"{pool}-{session_id}"
    url = remote_url(users[0], more={"session_id": session_id}, host=pool + NAMES)
    pyspark("spark.range(1).collect()", url, stop=False).succeeded()
    events = objects("events", f"--field-selector=involvedObject.name={name}")
    story = {event["reason"]: event["message"] for event in events}
    assert story.keys() == {"SessionWaiting", "SessionActive"}
    assert re.match(f"Instance {pool}-0 is (being created|starting)", story["SessionWaiting"])
    assert story["SessionActive"] == f"Served by instance {pool}-0."
    assert "wait" not in thing("sis", name)["status"]


@pytest.mark.usefixtures("short_holds")
def test_who_has_waited_for_long_hears_for_what_and_may_come_back(
    asks, gate, new_pool, kubectl, pyspark, remote_url, thing, users
):
    """Two servers at most, each for one session: the first two sessions wait for servers, the third one for a place."""
    gated = {"spec": template(CONNECT_CLASS, sparkConf={"spark.jars": gate.url})}
    more = {"sharing": "Session", "replicas": {"min": 0, "max": 2}, "sparkApplicationTemplate": gated}
    pool, (alice, bob) = new_pool("waiting", "connect", **more), users
    kubectl("wait", f"ssp/{pool}", "--for=condition=Programmed", "--timeout=10s")
    first, second, third = (str(uuid.uuid4()) for _ in range(3))

    def waits(user: str, session_id: str) -> tuple[str, dict]:
        answer, took = asks(user, pool, session_id)
        words = answer.refused("UNAVAILABLE")
        print(f"after {took:.1f} s: {words}")
        assert HOLD <= took < HOLD + 2
        (retry,) = [detail for detail in answer.details if detail.Is(RetryInfo.DESCRIPTOR)]
        delay = RetryInfo.FromString(retry.value).retry_delay
        assert 0 < delay.seconds + delay.nanos / 1e9 <= 10
        return words, thing("sis", f"{pool}-{session_id}")["status"]["wait"]

    words, wait = waits(alice, first)
    assert f"instance {pool}-0 is " in words
    assert wait["phase"] == "StartingInstance"

    gate.open()
    url = remote_url(alice, more={"session_id": first}, host=pool + NAMES)
    assert pyspark("print(spark.range(3).count())", url, stop=False).succeeded().out == "3\n", "PySpark comes back by itself"

    gate.close()
    words, wait = waits(bob, second)
    assert re.search(f"instance {pool}-1 is .*, expected (in about [0-9]+ s|any moment)", words)
    assert wait["expectedAt"]

    gate.open()
    kubectl("wait", f"sis/{pool}-{second}", "--for=jsonpath={.status.state}=Active", "--timeout=60s")
    words, wait = waits(alice, third)
    place = f"position 1 of 1 in the queue, since every instance of pool {pool} is in use, and the pool is at its maximum of 2"
    assert place in words
    assert (wait["phase"], wait["position"]) == ("Queued", 1)
