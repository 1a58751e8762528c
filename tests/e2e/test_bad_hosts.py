"""Hosts that no pool has, that two pools want, and that serve somebody else: what clients and administrators are told."""

import base64
import urllib.error

import pytest

from clients import condition, fetch

CLIENTS = pytest.mark.parametrize("client", ["pyspark", "beeline", "pyhive"])


@pytest.fixture
def refusal(pyspark, beeline, pyhive, remote_url):
    """refusal(client, user, host) -> what the user of that client is told at that host."""

    def call(client: str, user: str, host: str) -> str:
        if client == "pyspark":
            return pyspark("spark.range(1).collect()", remote_url(user, host=host)).complaint()
        return {"beeline": beeline, "pyhive": pyhive}[client]("SELECT 1", user, host=host).complaint()

    return call


@CLIENTS
@pytest.mark.parametrize("host", ["127.0.0.1", "sparc.test"])
def test_a_host_that_no_pool_has(refusal, users, client, host):
    assert (
        f"No pool has host {host}. Check the host name in the connection URL; `kubectl get ssp -o wide` lists the pools "
        "with their hosts."
    ) in refusal(client, users[0], host)


@pytest.mark.parametrize(("client", "has", "lacks"), [("beeline", "connect", "thrift"), ("pyspark", "thrift", "connect")])
def test_a_host_whose_pool_speaks_something_else(refusal, new_pool, users, client, has, lacks):
    host = f"{new_pool('other-type', has)}.test"
    assert f"Host {host} has no pool of type {lacks}." in refusal(client, users[0], host)


@CLIENTS
def test_a_user_who_may_not_use_the_pool(refusal, new_pool, objects, users, client):
    kind = "connect" if client == "pyspark" else "thrift"
    pool = new_pool("closed", kind, access={"users": ["carol"], "groups": ["administrators"]})
    words = f"User {users[0]} may not use pool {pool}. Ask its administrator for access."
    assert words in refusal(client, users[0], f"{pool}.test")
    assert not objects("sis", f"--field-selector=spec.pool={pool}")
    assert not objects("sparkapplications", "-l", f"sparkinteractive.io/pool={pool}")


def test_of_two_pools_with_one_host_and_type_the_older_one_has_it(new_pool, new_session, thing, kubectl, eventually, users):
    closed = {"access": {"users": ["nobody"]}}
    older = new_pool("older", "thrift", host="contested.test", **closed)
    eventually(lambda: condition(thing("ssp", older), "Accepted").get("status") == "True", 10, "the older one has the host")
    # The API server keeps whole seconds, and of two pools of one second the first in the alphabet has the host.
    born = thing("ssp", older)["metadata"]["creationTimestamp"]
    younger = new_pool("younger", "thrift", host="contested.test", **closed)
    assert born <= thing("ssp", younger)["metadata"]["creationTimestamp"]

    eventually(lambda: condition(thing("ssp", younger), "Accepted").get("status") == "False", 10, "the younger one is told")
    accepted = condition(thing("ssp", younger), "Accepted")
    assert (accepted["reason"], accepted["message"]) == (
        "HostConflict",
        f"Host contested.test with type thrift belongs to pool {older}, which is older. Choose another host, or delete one "
        "of the pools.",
    )
    assert condition(thing("ssp", younger), "Ready")["reason"] == "HostConflict"
    assert "HostConflict" in kubectl("get", "events", f"--field-selector=involvedObject.name={younger}")
    assert condition(thing("ssp", older), "Accepted")["status"] == "True"

    session = new_session(users[0], younger)
    eventually(lambda: condition(thing("sis", session), "Ready"), 10, "its session is told too")
    ready = condition(thing("sis", session), "Ready")
    assert (ready["reason"], ready["message"]) == (
        "HostConflict",
        f"Pool {older} has this pool's host and type already.",
    )


def test_the_younger_pool_gets_the_host_when_the_older_one_goes(refusal, new_pool, kubectl, thing, eventually, users):
    closed = {"access": {"users": ["nobody"]}}
    older = new_pool("older", "thrift", host="inherited.test", **closed)
    younger = new_pool("younger", "thrift", host="inherited.test", **closed)
    assert f"may not use pool {older}." in refusal("pyhive", users[0], "inherited.test")
    kubectl("delete", "ssp", older)
    eventually(lambda: condition(thing("ssp", younger), "Accepted").get("status") == "True", 10, "the younger one has it")
    assert f"may not use pool {younger}." in refusal("pyhive", users[0], "inherited.test")


def test_a_path_where_nothing_is_served(environment, users):
    login = base64.b64encode(f"{users[0]}:{environment.password(users[0])}".encode()).decode()
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetch(f"{environment['ENVOY_URL']}/cliservise", headers={"authorization": f"Basic {login}"})
    assert refused.value.code == 404
    assert (
        "Nothing is served at /cliservise. Spark Connect clients use sc://localhost:PORT, JDBC clients "
        "jdbc:hive2://localhost:PORT/default;transportMode=http;httpPath=cliservice."
    ) in refused.value.read().decode()
