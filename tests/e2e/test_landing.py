"""Where sessions land: users, Spark session ids and kubectl on the instances of a pool, checked in the data path."""

import uuid

import pytest

# The address of the driver that answers.
WHERE = 'print(spark.conf.get("spark.driver.host"))'


@pytest.fixture(scope="module")
def two_instances(module_pool, thing, eventually) -> str:
    """A pool with two instances that answer."""
    pool = module_pool("landing", "connect", replicas={"min": 2, "max": 2})
    eventually(lambda: thing("ssp", pool).get("status", {}).get("readyReplicas") == 2, 90, f"pool {pool} is ready")
    return pool


@pytest.fixture
def lands(pyspark, remote_url, thing):
    """lands(user, pool) -> where PySpark's session is, by its object; that its query went there is asserted."""

    def call(user: str, pool: str) -> str:
        session_id = str(uuid.uuid4())
        host = "localhost" if pool == "connect" else f"{pool}.test"
        url = remote_url(user, more={"session_id": session_id}, host=host)
        answered = pyspark(WHERE, url, stop=False).succeeded().out.strip()
        status = thing("sis", f"{pool}-{session_id}")["status"]
        assert status["endpoint"].rpartition(":")[0] == answered
        return status["assignedInstance"]

    return call


def test_a_second_user_and_a_second_session_share_the_pools_instance(lands, users):
    alice, bob = users
    assert len({lands(alice, "connect"), lands(alice, "connect"), lands(bob, "connect")}) == 1


def test_each_session_lands_on_the_least_loaded_instance(two_instances, lands, new_session, thing, eventually, users):
    pool, (alice, bob) = two_instances, users
    assert [lands(alice, pool), lands(bob, pool), lands(alice, pool)] == [f"{pool}-0", f"{pool}-1", f"{pool}-0"]

    name = new_session(bob, pool)
    eventually(lambda: thing("sis", name).get("status", {}).get("state") == "Active", 10, "kubectl's session is placed")
    assert thing("sis", name)["status"]["assignedInstance"] == f"{pool}-1"
    assert [i["activeSessions"] for i in thing("ssp", pool)["status"]["instances"]] == [2, 2]


def test_with_sharing_by_user_nobody_lands_beside_somebody_else(two_instances, kubectl, lands, users):
    pool, (alice, bob) = two_instances, users
    kubectl("patch", "ssp", pool, "--type=merge", "-p", '{"spec": {"sharing": "User"}}')
    try:
        assert [lands(alice, pool), lands(bob, pool)] == [f"{pool}-0", f"{pool}-1"]
        assert [lands(alice, pool), lands(alice, pool), lands(bob, pool)] == [f"{pool}-0", f"{pool}-0", f"{pool}-1"]
    finally:
        kubectl("patch", "ssp", pool, "--type=merge", "-p", '{"spec": {"sharing": "Pool"}}')


def test_a_session_made_by_kubectl_is_claimed_by_its_users_first_connection(
    pyspark, remote_url, new_session, objects, thing, eventually, users
):
    user, other = users
    name = new_session(user, "connect")
    eventually(lambda: thing("sis", name).get("status", {}).get("state") == "Active", 60, "the session is placed")

    theirs = remote_url(other, more={"session_id": str(uuid.uuid4())})
    pyspark(WHERE, theirs).succeeded()
    assert "sessionId" not in thing("sis", name)["status"], "nobody else claims it"

    session_id = str(uuid.uuid4())
    answered = pyspark(WHERE, remote_url(user, more={"session_id": session_id}), stop=False).succeeded().out.strip()
    status = thing("sis", name)["status"]
    assert status["sessionId"] == session_id
    assert status["endpoint"].rpartition(":")[0] == answered
    mine = objects("sis", f"--field-selector=spec.user={user},spec.pool=connect")
    assert [session["metadata"]["name"] for session in mine] == [name]

    pyspark(WHERE, remote_url(user, more={"session_id": str(uuid.uuid4())})).succeeded()
    assert len(objects("sis", f"--field-selector=spec.user={user},spec.pool=connect")) == 2, "the next one is new"


def test_somebody_elses_spark_session_id_is_refused(pyspark, remote_url, users):
    alice, bob = users
    session_id = str(uuid.uuid4())
    pyspark(WHERE, remote_url(alice, more={"session_id": session_id}), stop=False).succeeded()
    refused = pyspark(WHERE, remote_url(bob, more={"session_id": session_id}))
    assert refused.complaint().endswith(
        f"Spark session {session_id} belongs to another user. Start a session of your own."
    )


def test_a_session_for_a_pool_that_does_not_exist_says_so(new_session, thing, eventually, users):
    name = new_session(users[0], "no-such-pool")
    eventually(lambda: thing("sis", name).get("status", {}).get("state") == "Failed", 10, "the session has failed")
    (ready,) = thing("sis", name)["status"]["conditions"]
    assert (ready["reason"], ready["message"]) == (
        "PoolNotFound",
        "There is no SparkSessionPool named no-such-pool in this namespace. `kubectl get ssp` lists those there are.",
    )
