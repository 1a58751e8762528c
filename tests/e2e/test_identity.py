"""A Connect user is who they logged in as, in the session that was checked, on a driver that several users share."""

import base64
import json
import uuid

import grpc
import pytest

from clients import CONNECT_CLASS, NAMES, condition, fetch, template
from connect_wire import again, artifact, call, config_get, config_set

KEY = "spark.sql.session.mine"
MEGABYTES_20 = "x" * (20 << 20)
TWICE = "The request names its session or its user twice, which Spark Connect clients never do."


@pytest.fixture(scope="module")
def pool(module_pool):
    """One driver for all of its users, which shows who uses it."""
    shown = {"spark.ui.enabled": "true", "spark.ui.port": "4040"}
    spec = {"spec": template(CONNECT_CLASS, sparkConf=shown)}
    return module_pool("identity", "connect", replicas={"min": 1, "max": 1}, sparkApplicationTemplate=spec)


@pytest.fixture(scope="module")
def trusted(module_pool):
    return module_pool("trusted", "connect", identity="Trusted")


@pytest.fixture(scope="module")
def driver(objects, eventually):
    """driver(pool) -> the address of the pool's only driver, and the token of its instance."""

    def call(pool: str) -> tuple[str, str]:
        def found():
            return [pod for pod in objects("pods", f"-lsparkinteractive.io/pool={pool}") if pod["status"].get("podIP")]

        (pod,) = eventually(found, 60, f"a driver of {pool}")
        instance = pod["metadata"]["labels"]["sparkinteractive.io/instance"]
        (secret,) = [s for s in objects("secrets") if s["metadata"]["name"] == f"{instance}-token"]
        return pod["status"]["podIP"], base64.b64decode(secret["data"]["token"]).decode()

    return call


@pytest.fixture
def session():
    return str(uuid.uuid4())


@pytest.fixture(scope="module")
def through_envoy(environment, pool):
    """through_envoy(user, method, messages, headers=[]) is a call of a client that can send what it likes."""

    def run(user: str, method: str, messages, headers=(), **more):
        login = base64.b64encode(f"{user}:{environment.password(user)}".encode()).decode()
        headers = [("authorization", f"Basic {login}"), *headers]
        address, authority = f"127.0.0.1:{environment.port}", f"{pool}{NAMES}:{environment.port}"
        return call(address, method, messages, headers, authority=authority, **more)

    return run


def test_a_message_that_names_two_sessions_or_two_users_is_refused(through_envoy, users, session):
    alice, bob = users
    for more in (again(session=str(uuid.uuid4())), again(session=session), again(session=session, user=bob), again(user=bob)):
        answer = through_envoy(alice, "Config", config_set(session, KEY, "small") + more)
        assert answer.refused("INVALID_ARGUMENT") == TWICE


def test_a_session_id_at_the_end_of_20_megabytes_is_refused(through_envoy, users, session):
    alice, bob = users
    victim = str(uuid.uuid4())
    through_envoy(bob, "Config", config_set(victim, KEY, "bob's")).pairs()
    for user in (None, bob):
        forged = config_set(session, KEY, MEGABYTES_20) + again(session=victim, user=user)
        expected = f"This ConfigRequest names another session than the one that was checked, {session}."
        assert through_envoy(alice, "Config", forged).refused("PERMISSION_DENIED") == expected
    assert through_envoy(bob, "Config", config_get(victim, KEY)).pairs() == {KEY: "bob's"}


def test_a_user_at_the_end_of_20_megabytes_changes_nothing(through_envoy, users, session):
    alice, bob = users
    through_envoy(alice, "Config", config_set(session, KEY, MEGABYTES_20) + again(session=session, user=bob)).pairs()
    assert through_envoy(alice, "Config", config_get(session, KEY)).pairs() == {KEY: MEGABYTES_20}


def test_a_second_message_of_a_stream_cannot_be_for_another_session(through_envoy, users, session):
    stream = [artifact(said, "files/a.txt") for said in (session, str(uuid.uuid4()))]
    answer = through_envoy(users[0], "AddArtifacts", stream)
    expected = f"This AddArtifactsRequest names another session than the one that was checked, {session}."
    assert answer.refused("PERMISSION_DENIED") == expected


def test_a_compressed_message_is_refused_in_words(through_envoy, users, session):
    answer = through_envoy(users[0], "Config", config_set(session, KEY, "x" * 5000), compression=grpc.Compression.Gzip)
    assert answer.refused("INVALID_ARGUMENT") == (
        "The request is compressed, so that the session it belongs to cannot be read. Switch gRPC compression off in the client."
    )


def test_the_session_of_another_user_is_refused(through_envoy, users, session):
    alice, bob = users
    through_envoy(alice, "Config", config_set(session, KEY, "hers", user=alice)).pairs()
    answer = through_envoy(bob, "Config", config_get(session, KEY, user=alice))
    assert answer.refused("PERMISSION_DENIED") == (
        f"Spark session {session} belongs to another user. Start a session of your own."
    )


def test_what_a_client_says_of_its_user_makes_no_difference(through_envoy, users, session):
    through_envoy(users[0], "Config", config_set(session, KEY, "hers", user="u1")).pairs()
    for user in ("u2", "", users[0], users[1]):
        assert through_envoy(users[0], "Config", config_get(session, KEY, user=user)).pairs() == {KEY: "hers"}


def test_headers_of_the_gateway_that_a_client_sends_have_no_effect(through_envoy, users, session):
    alice, bob = users
    other = str(uuid.uuid4())
    through_envoy(bob, "Config", config_set(other, KEY, "his")).pairs()
    own = [("x-spark-session-user-bin", bob.encode()), ("x-spark-session-id", other)]
    for headers in (own, own * 2):
        through_envoy(alice, "Config", config_set(session, KEY, "hers"), headers).pairs()
        assert through_envoy(alice, "Config", config_get(session, KEY), headers).pairs() == {KEY: "hers"}
    assert through_envoy(bob, "Config", config_get(other, KEY)).pairs() == {KEY: "his"}


def test_spark_s_own_page_shows_the_user_who_logged_in(pyspark, remote_url, pool, driver, users):
    url = remote_url(users[0], more={"user_id": "somebody-else"}, host=f"{pool}{NAMES}")
    pyspark("spark.range(1).collect()", url).succeeded()
    address, _ = driver(pool)
    page = fetch(f"http://{address}:4040/connect/")
    assert users[0] in page
    assert "somebody-else" not in page


def test_a_driver_answers_nobody_who_goes_around_envoy(driver, pool, trusted, pyspark, remote_url, users, session):
    pyspark("spark.range(1).collect()", remote_url(users[0], host=f"{trusted}{NAMES}")).succeeded()
    (address, token), (_, other_token) = driver(pool), driver(trusted)
    identity = [("x-spark-session-id", session), ("x-spark-session-user-bin", b"alice")]
    for login, words in (
        ([], "carries no token of the instance"),
        ([("authorization", "Bearer ")], "does not carry the token of the instance"),
        ([("authorization", f"Bearer {other_token}")], "does not carry the token of the instance"),
    ):
        answer = call(f"{address}:15002", "Config", config_get(session, KEY), [*login, *identity])
        assert words in answer.refused("UNAUTHENTICATED")
    assert token != other_token
    alone = call(f"{address}:15002", "Config", config_get(session, KEY), [("authorization", f"Bearer {token}")])
    assert "x-spark-session-id" in alone.refused("PERMISSION_DENIED")


def test_a_pool_says_whether_identities_are_forced(pool, trusted, thing, eventually, pyspark, remote_url, users):
    seen = eventually(lambda: condition(thing("ssp", pool), "IdentityEnforced"), 30, "the condition")
    assert (seen["status"], seen["reason"]) == ("True", "Enforced")
    assert seen["message"] == "The servers take each request's user from Envoy, whatever the request itself says."
    pyspark("spark.range(1).collect()", remote_url(users[0], host=f"{trusted}{NAMES}")).succeeded()
    seen = eventually(lambda: condition(thing("ssp", trusted), "IdentityEnforced"), 30, "the condition")
    assert (seen["status"], seen["reason"]) == ("False", "Trusted")
    assert "the servers believe what a request says of its user and its session" in seen["message"]


def test_the_token_of_an_instance_stands_in_no_object_but_its_secret(driver, pool, kubectl):
    _, token = driver(pool)
    encoded = base64.b64encode(token.encode()).decode()
    said = kubectl("get", "ssp,sis,sparkapplications,pods,events,configmaps", "-o", "json")
    assert token not in said and encoded not in said
    holders = [s for s in json.loads(kubectl("get", "secrets", "-o", "json"))["items"] if encoded in json.dumps(s)]
    assert [secret["metadata"]["ownerReferences"][0]["kind"] for secret in holders] == ["SparkApplication"]
