"""What clients try in order to be somebody else, or somewhere else."""

import json
from urllib.parse import quote

import pytest

from clients import run

WHERE = 'print(spark.conf.get("spark.driver.host"))'
WHO = "SELECT current_user()"


@pytest.fixture(scope="module")
def cluster(environment, pyspark, pyhive, remote_url, envoy_admin):
    """cluster(pool) -> Envoy's name for the pool's server, and its address. Both pools of the environment run one."""
    user = environment["OTHER_USER_NAME"]
    pyspark("spark.range(1).collect()", remote_url(user)).succeeded()
    pyhive("SELECT 1", user).succeeded()

    def call(pool: str) -> tuple[str, str]:
        statuses = json.loads(envoy_admin("/clusters?format=json"))["cluster_statuses"]
        (found,) = [status for status in statuses if status["name"].startswith(f"{pool}-")]
        return found["name"], found["host_statuses"][0]["address"]["socket_address"]["address"]

    return call


def test_a_routing_header_of_a_pyspark_client_does_not_steer_it(pyspark, remote_url, cluster, users):
    elsewhere, _ = cluster("thrift")
    ran = pyspark(WHERE, remote_url(users[0], more={"x-spark-session-cluster": elsewhere}))
    assert ran.succeeded().out.strip() == cluster("connect")[1]


def test_a_routing_header_of_a_jdbc_client_does_not_steer_it(beeline, cluster, users):
    elsewhere, _ = cluster("connect")
    ran = beeline("SET spark.driver.host", users[0], options=f";http.header.x-spark-session-cluster={elsewhere}")
    assert ran.succeeded().rows()[1] == ["spark.driver.host", cluster("thrift")[1]]


def test_a_routing_header_is_no_login(pyspark, environment, cluster):
    there, _ = cluster("connect")
    ran = pyspark(WHERE, f"sc://localhost:{environment.port}/;x-spark-session-cluster={quote(there, safe='')}")
    assert "No credentials were sent." in ran.complaint()


@pytest.mark.parametrize("query", ["?doAs=eve", "/?doAs=eve", "?x=1&doAs=eve", "?DOAS=eve"])
def test_do_as_does_not_change_the_user(pyhive, cluster, users, query):
    assert pyhive(WHO, users[0], path=f"cliservice{query}").succeeded().out == f"{users[0]}\n"


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("cliservice?doAs=eve", ""),
        ("cliservice", ";http.header.x-spark-username=eve;http.header.x-spark-password=x"),
    ],
)
def test_beeline_stays_who_it_is(beeline, cluster, users, path, options):
    assert beeline(WHO, users[0], path=path, options=options).succeeded().rows()[1] == [users[0]]


def test_a_proxy_user_is_refused(beeline, cluster, users):
    complaint = beeline(WHO, users[0], options=";hive.server2.proxy.user=eve").complaint()
    assert "Proxy user substitution is not allowed" in complaint


def test_everybody_is_who_they_logged_in_as(pyhive, cluster, users):
    for user in (*users, *users):
        assert pyhive(WHO, user).succeeded().out == f"{user}\n"


BORROWED_HANDLE = """\
import sys
from pyhive import hive
from thrift.transport.THttpClient import THttpClient
url, forged, *logins = sys.argv[1:]
def connected(user, password):
    transport = THttpClient(url)
    hive.Connection._set_authorization_header(transport, user, password)
    return hive.connect(thrift_transport=transport, username=user)
owner, other = (connected(*login.split(":")) for login in logins)
handle = owner._sessionHandle
if forged == "forged":
    handle.sessionId.secret = bytes(16)
other._sessionHandle = handle
cursor = other.cursor()
cursor.execute("SELECT current_user()")
print(*cursor.fetchall())
"""


@pytest.fixture
def borrowed_handle(environment, users, cluster):
    """borrowed_handle(forged) runs a query of the second user under the handle of the first one's Thrift session."""

    def call(forged: str):
        logins = [f"{user}:{environment.password(user)}" for user in users]
        url = f"http://localhost:{environment.port}/cliservice"
        return run([environment["PYTHON"], "-W", "ignore", "-c", BORROWED_HANDLE, url, forged, *logins])

    return call


@pytest.mark.parametrize("secret", ["forged", "whole"])
def test_the_thrift_session_of_another_user_is_refused(borrowed_handle, users, secret):
    """Spark's pages and logs show the public half of a handle. Spark itself would take whoever knows the other half, too."""
    complaint = borrowed_handle(secret).complaint()
    assert "The Thrift session that this request names belongs to another user." in complaint
    assert users[0] not in complaint.splitlines()[-1]
