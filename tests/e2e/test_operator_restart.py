"""The operator is killed while queries run: none is cut, and everything goes on from what the API server and Envoy know."""

import re
import uuid
from pathlib import Path

import pytest

SECONDS = 15
# A word that does not stand in the query itself, for a terminal that repeats what it is told.
WORD = "SELECT concat('{word}', '-done')"
# Leaves a file when it begins, and then takes that long.
SLOW = (
    "SELECT concat('slow', '-done'), java_method('java.io.File', 'createTempFile', '{mark}', ''), "
    f"java_method('java.lang.Thread', 'sleep', {SECONDS}000L)"
)


@pytest.fixture
def mark():
    """The beginning of the names of files that drivers make; /tmp is where Java puts them."""
    mark = f"e2e-{uuid.uuid4().hex}"
    yield mark
    for file in Path("/tmp").glob(f"{mark}*"):
        file.unlink()


@pytest.mark.parametrize("client", ["pyspark", "beeline"])
def test_a_query_outlives_the_operator(
    client, shells, remote_url, operator_down, environment, envoy_admin, objects, eventually, mark, users
):
    def run(sql: str) -> None:
        shell.say(f"{sql};" if client == "beeline" else sql)

    def requests() -> int:
        return int(re.search(r"downstream_rq_total: (\d+)", envoy_admin("/stats?filter=^http.spark.downstream_rq_total"))[1])

    shell = shells(client, remote_url(users[0]) if client == "pyspark" else users[0])
    run(WORD.format(word="first"))
    shell.until("first-done", 90)
    before = {session["metadata"]["uid"]: session["status"]["assignedInstance"] for session in objects("sis")}

    run(SLOW.format(mark=mark))
    eventually(lambda: any(Path("/tmp").glob(f"{mark}*")), 20, "the query runs")
    operator_down()
    if client == "beeline":
        # It asks every five seconds at the latest whether its query has ended: here nobody can say who may ask.
        asked = requests()
        eventually(lambda: requests() > asked, 10, "the client asks while the operator is down")
    environment.up()

    shell.until("slow-done", SECONDS + 30)
    run(WORD.format(word="next"))
    shell.until("next-done", 30)
    assert "FAILED" not in shell.text and "Error" not in shell.text, shell.text
    after = {session["metadata"]["uid"]: session["status"]["assignedInstance"] for session in objects("sis")}
    assert after == before, "the same session on the same instance"


def test_a_pool_made_while_the_operator_was_down_is_served(operator_down, environment, new_pool, pyhive, thing, users):
    operator_down()
    pool = new_pool("meanwhile", "thrift", access={"users": ["nobody"]})
    environment.up()
    assert f"User {users[0]} may not use pool {pool}." in pyhive("SELECT 1", users[0], host=f"{pool}.test").complaint()
