"""Programs that end without `spark.stop()`, as most scripts, kernels and notebooks do: whether their users notice."""

import re
import signal
import time
import uuid

import pytest

from clients import condition

@pytest.fixture(scope="module")
def pool(module_pool) -> str:
    return module_pool("left", "connect", sessionPolicy={"maxSessionsPerUser": 5})


@pytest.fixture
def one_each(new_pool) -> str:
    return new_pool("one-left", "connect", sessionPolicy={"maxSessionsPerUser": 1})


def disconnected(thing, session: str) -> str | None:
    return thing("sis", session).get("status", {}).get("disconnectedAt")


def test_the_same_script_eight_times_gets_eight_answers(pool, pyspark, remote_url, users):
    url = remote_url(users[0], host=f"{pool}.test")
    pyspark("print(spark.range(10).count())", url).succeeded()  # the instance runs
    began = time.monotonic()
    for _ in range(8):
        assert pyspark("print(spark.range(10).count())", url, stop=False).succeeded().out == "10\n"
    print(f"eight scripts without stop() took {time.monotonic() - began:.1f} s")


@pytest.fixture
def kernel(one_each, shells, pyspark, remote_url, thing, users) -> tuple:
    """A user at the limit: the open kernel, its session, its URL, and the URL of another program of theirs."""
    ids = [str(uuid.uuid4()) for _ in range(2)]
    first, second = (remote_url(users[0], more={"session_id": i}, host=f"{one_each}.test") for i in ids)
    kernel = shells("pyspark", first)
    kernel.says("SELECT 'alive'", "alive", 60)
    session = f"{one_each}-{ids[0]}"
    status = thing("sis", session)["status"]
    assert [open["client"].rpartition(":")[0] for open in status["clientConnections"]] == ["127.0.0.1"]
    refused = pyspark("print(spark.range(3).count())", second).complaint()
    assert f"has 1: {session} (Active). End one" in refused, "a kernel that is open keeps its place"
    return kernel, session, first, second


@pytest.mark.parametrize("end", ["shut down", "killed"])
def test_the_next_program_gets_the_place_of_a_kernel_that_was(
    end, kernel, one_each, pyspark, thing, kubectl, eventually, users
):
    kernel, session, first, second = kernel
    if end == "killed":
        kernel.process.send_signal(signal.SIGKILL)
    else:
        kernel.finish(20)
    eventually(lambda: disconnected(thing, session), 10, "the end of the connection is noticed")
    header, row = kubectl("get", "sis", session, "-o", "wide").splitlines()
    at = header.index("DISCONNECTED")
    assert re.fullmatch(r"\d+s", row[at:].split()[0]), row
    assert pyspark("print(spark.range(3).count())", second).succeeded().out == "3\n"
    told = condition(thing("sis", session), "Ready")
    words = (
        "The session ended to make room for a newer one of the same user: its client was gone since {}, and user "
        f"{users[0]} may have 1 session(s) in pool {one_each} at the same time. Start a new session."
    )
    words = words.format(thing("sis", session)["status"]["disconnectedAt"])
    assert (told["reason"], told["message"]) == ("ReplacedByNewer", words)
    back = pyspark("spark.range(3).count()", first).complaint()
    assert f"[INVALID_HANDLE.SESSION_CLOSED] {words}" in back


def test_a_program_that_comes_back_to_its_session_keeps_it(one_each, pyspark, remote_url, thing, eventually, users):
    session_id = str(uuid.uuid4())
    url = remote_url(users[0], more={"session_id": session_id}, host=f"{one_each}.test")
    pyspark("spark.range(3).createOrReplaceTempView('v')", url, stop=False).succeeded()
    session = f"{one_each}-{session_id}"
    eventually(lambda: disconnected(thing, session), 10, "the end of the program is noticed")
    assert pyspark("print(spark.table('v').count(), flush=True)", url, stop=False).succeeded().out == "3\n"


def test_stop_leaves_nothing_to_replace(one_each, pyspark, remote_url, thing, users):
    session_id = str(uuid.uuid4())
    url = remote_url(users[0], more={"session_id": session_id}, host=f"{one_each}.test")
    pyspark("spark.range(3).count()", url).succeeded()
    assert condition(thing("sis", f"{one_each}-{session_id}"), "Ready")["reason"] == "Released"
