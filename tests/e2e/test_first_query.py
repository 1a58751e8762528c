"""From zero: the first query of PySpark, beeline and PyHive starts the server that answers it."""

import re
import uuid

import pytest

WHO = "SELECT current_user() AS user, count(*) AS rows FROM range(1000)"


@pytest.fixture
def at_zero(kubectl, thing, eventually):
    """at_zero(pool) ends what runs in a pool of deploy/local/pools.yaml."""

    def call(pool: str) -> None:
        kubectl("delete", "sis", f"--field-selector=spec.pool={pool}")
        kubectl("delete", "sparkapplications", "-l", f"sparkinteractive.io/pool={pool}")
        eventually(lambda: not thing("ssp", pool)["status"]["instances"], 30, f"pool {pool} has no instance")

    return call


def row(table: str, name: str) -> list[str]:
    """The cells of a row that kubectl printed, without the first."""
    return next(line.split()[1:] for line in table.splitlines() if line.split()[0].endswith(name))


def header(table: str) -> str:
    return re.sub(" +", " ", table.splitlines()[0])


def test_pyspark_starts_a_connect_server(pyspark, remote_url, kubectl, at_zero, users):
    at_zero("connect")
    session_id = str(uuid.uuid4())
    url = remote_url(users[0], more={"session_id": session_id})
    ran = pyspark("spark.range(1000).groupBy().count().show()", url, stop=False).succeeded()
    assert ran.rows() == [["count"], ["1000"]]

    sessions = kubectl("get", "sis")
    assert header(sessions).startswith("NAME USER POOL STATE INSTANCE AGE")
    user, pool, state, instance, _age = row(sessions, f"connect-{session_id}")
    assert (user, pool, state) == (users[0], "connect", "Active")
    assert re.fullmatch(r"connect-\d+", instance)

    pools = kubectl("get", "ssp")
    assert header(pools).startswith("NAME TYPE REPLICAS READY SESSIONS REASON AGE")
    assert row(pools, "connect")[:4] == ["connect", "1", "1", "1"]


def test_beeline_starts_a_thrift_server(beeline, kubectl, objects, at_zero, users):
    at_zero("thrift")
    assert beeline(WHO, users[0]).succeeded().rows()[1] == [users[0], "1000"]

    (session,) = objects("sis", f"--field-selector=spec.user={users[0]},spec.pool=thrift")
    user, pool, state, instance, _age = row(kubectl("get", "sis"), session["metadata"]["name"])
    assert (user, pool, state) == (users[0], "thrift", "Terminated"), "beeline closes its connection"
    assert re.fullmatch(r"thrift-\d+", instance)
    assert row(kubectl("get", "ssp"), "thrift")[:4] == ["thrift", "1", "1", "0"]


def test_pyhive_queries_as_the_user_who_logged_in(pyhive, objects, users):
    for user in users:
        assert pyhive(WHO, user).succeeded().out == f"{user} 1000\n"
    owners = {session["spec"]["user"] for session in objects("sis", "--field-selector=spec.pool=thrift")}
    assert owners == set(users)


def test_a_token_logs_in_with_every_client(pyspark, beeline, pyhive, remote_url, access_token, users):
    """JDBC tools send it as the password, with any user name."""
    token = access_token(users[0])
    assert pyspark("print(spark.range(3).count())", remote_url(users[0], token=token)).succeeded().out == "3\n"
    assert beeline("SELECT current_user()", "token", token).succeeded().rows()[1] == [users[0]]
    assert pyhive("SELECT current_user()", "token", token).succeeded().out == f"{users[0]}\n"


def test_one_table_lists_pools_and_sessions(kubectl, new_session, thing, eventually, users):
    """What the README tells people to type."""
    name = new_session(users[0], "no-such-pool")
    eventually(lambda: thing("sis", name).get("status"), 10, "the session has a status")
    table = kubectl("get", "ssp,sis")
    headers = [header(part) for part in table.split("\n\n")]
    assert headers == ["NAME TYPE REPLICAS READY SESSIONS REASON AGE", "NAME USER POOL STATE INSTANCE AGE"]
