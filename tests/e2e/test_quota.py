"""Users who have all the sessions that they may have."""

import uuid

import pytest

from clients import condition


@pytest.fixture(scope="module")
def one_each(module_pool) -> dict[str, str]:
    """Pools in which a user may have one session, by type."""
    policy = {"sessionPolicy": {"maxSessionsPerUser": 1}}
    return {kind: module_pool("one-each", kind, **policy) for kind in ("connect", "thrift")}


def exceeded(user: str, pool: str, session: str) -> str:
    return (
        f"Quota exceeded: user {user} may have 1 session(s) in pool {pool} at the same time, and has 1: {session} (Active). "
        "End one: spark.stop() in its program, close the JDBC connection, or `kubectl delete sis NAME`; idle ones end by "
        "themselves after 720 min."
    )


def test_a_second_spark_session(one_each, pyspark, shells, remote_url, kubectl, objects, users):
    pool, user = one_each["connect"], users[0]
    ids = [str(uuid.uuid4()) for _ in range(3)]
    first, second, third = (remote_url(user, more={"session_id": i}, host=f"{pool}.test") for i in ids)
    count = "print(spark.range(3).count())"
    kernel = shells("pyspark", first)
    kernel.says("SELECT 'alive'", "alive", 60)
    told = exceeded(user, pool, f"{pool}-{ids[0]}")
    assert pyspark(count, second).complaint().endswith(f"SparkConnectGrpcException: {told}")
    assert len(objects("sis", f"--field-selector=spec.pool={pool}")) == 1, "a refused session leaves nothing behind"
    kernel.says("SELECT 'well'", "well", 60)

    kubectl("delete", "sis", f"{pool}-{ids[0]}")
    assert pyspark(count, second, stop=True).succeeded().out == "3\n", "what the text says helps"
    assert pyspark(count, third, stop=True).succeeded().out == "3\n", "and so does spark.stop()"


def test_a_second_jdbc_session(one_each, beeline, pyhive, new_session, thing, eventually, users):
    pool, (user, other) = one_each["thrift"], users
    host = f"{pool}.test"
    first = new_session(user, pool)
    eventually(lambda: thing("sis", first).get("status", {}).get("state") == "Active", 60, "the session is placed")
    told = exceeded(user, pool, first)
    assert told in beeline("SELECT 1", user, path="cliservice/second", host=host).complaint()
    assert told in pyhive("SELECT 1", user, path="cliservice/second", host=host).complaint()
    assert pyhive("SELECT current_user()", other, host=host).succeeded().out == f"{other}\n", "a quota is each user's own"


def test_a_session_made_by_kubectl_counts_and_is_counted(one_each, new_session, thing, eventually, users):
    pool = one_each["connect"]
    first = new_session(users[0], pool)
    eventually(lambda: thing("sis", first).get("status", {}).get("state") == "Active", 60, "the first session is placed")
    second = new_session(users[0], pool)
    eventually(lambda: thing("sis", second).get("status", {}).get("state") == "Failed", 10, "the second one has failed")
    ready = condition(thing("sis", second), "Ready")
    assert (ready["reason"], ready["message"]) == ("QuotaExceeded", exceeded(users[0], pool, first))
