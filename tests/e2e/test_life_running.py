"""Sessions in which something runs that nobody waits for. What is looked at takes minutes, so all of it begins first."""

import json
import re
import time
import uuid
from dataclasses import dataclass

import pytest

from clients import NAMES, condition

START = """
query = spark.readStream.format("rate").load().writeStream.format("noop").queryName("events").start()
print("runs", query.isActive)
"""
STOP = """
(query,) = spark.streams.active
query.stop()
print("run", len(spark.streams.active))
"""
SLEEP = "SELECT concat('slow', '-done'), java_method('java.lang.Thread', 'sleep', 150000L)"
RUNS = 'streaming query "events" runs in it'
GONE = "a query whose client has gone runs in it"
NOT_USED = r"The session ended because it was not used for 1 min \(since [0-9TZ:-]+\)\. Start a new session\."
TOO_OLD = "The session ended because it had reached its maximum lifetime of 1 min. Start a new one."


@dataclass(frozen=True)
class Began:
    pool: str
    names: dict[str, str]
    urls: dict[str, str]


@pytest.fixture(scope="module")
def began(module_pool, module_shells, pyspark, remote_url, users) -> Began:
    """Programs that started a streaming query and ended without `spark.stop()`, and one that was killed in its query."""
    kept = module_pool("runs", "connect", sessionPolicy={"idleTimeoutMinutes": 1})
    policy = {"idleTimeoutMinutes": 1, "runningQueriesKeepSessions": False}
    off = module_pool("off", "connect", sessionPolicy=policy)
    pools = {"stopped": kept, "lives": kept, "killed": kept, "off": off}
    ids = {name: str(uuid.uuid4()) for name in pools}
    urls = {name: remote_url(users[0], more={"session_id": ids[name]}, host=pools[name] + NAMES) for name in pools}
    for name in ("stopped", "lives", "off"):
        assert "runs True" in pyspark(START, urls[name], stop=False).succeeded().out
    killed = module_shells("pyspark", urls["killed"])
    killed.says("SELECT concat('first', '-done')", "first-done", 60)
    killed.say(SLEEP)
    time.sleep(3)  # it runs
    killed.end()
    return Began(kept, {name: f"{pools[name]}-{ids[name]}" for name in pools}, urls)


@pytest.fixture
def told(thing):
    """told(session) -> state, and reason and message of its condition."""

    def look(name: str) -> tuple[str, str, str]:
        found = thing("sis", name)
        ready = condition(found, "Ready")
        return found["status"]["state"], ready["reason"], ready["message"]

    return look


def test_what_runs_keeps_its_session_and_the_session_says_so(began, told, thing, eventually):
    words = {"stopped": RUNS, "lives": RUNS, "killed": GONE}
    for name, what in words.items():
        session = began.names[name]
        place = thing("sis", session)["status"]["assignedInstance"]
        message = f"Served by instance {place}. No client uses it now, but {what}, which keeps it."
        eventually(lambda: told(session) == ("Active", "QueryRunning", message), 100, f"{name} says what keeps it")
        print(told(session))


def test_where_the_pool_does_not_want_it_the_session_ends(began, told, eventually):
    session = began.names["off"]
    eventually(lambda: told(session)[0] == "Terminated", 100, "it ends")
    _, reason, message = told(session)
    assert reason == "IdleTimeout" and re.fullmatch(NOT_USED, message)


def test_when_another_program_has_stopped_the_query_the_session_ends(began, pyspark, told, eventually):
    assert "run 0" in pyspark(STOP, began.urls["stopped"], stop=False).succeeded().out
    session = began.names["stopped"]
    eventually(lambda: told(session)[0] == "Terminated", 120, "it ends")
    _, reason, message = told(session)
    assert reason == "IdleTimeout" and re.fullmatch(NOT_USED, message)
    assert told(began.names["lives"])[1] == "QueryRunning", "the other one still runs"


def test_the_maximum_lifetime_ends_a_session_in_which_a_query_runs(began, kubectl, told, eventually):
    policy = {"spec": {"sessionPolicy": {"maxLifetimeMinutes": 1}}}
    kubectl("patch", "ssp", began.pool, "--type=merge", "-p", json.dumps(policy))
    session = began.names["lives"]
    eventually(lambda: told(session)[0] == "Terminated", 15, "it ends")
    assert told(session)[1:] == ("LifetimeExceeded", TOO_OLD)
