"""Providers that tell groups and users in other ways than the environment's own Keycloak does, played by that Keycloak; and
the sessions that password logins leave there."""

import json
import os
import signal
import uuid

import pytest

from clients import run
from conftest import LOCAL
from keycloak_admin import KeycloakAdmin

WHO = "SELECT current_user()"
GROUP = "data-science"
NO_GROUPS = (
    'The token of this login carries no groups: it has no claim "groups" with names in it. If the identity provider knows '
    "groups of this user, the operator's administrator must have them put into the token (--oidc-scope, or a mapper at the "
    "provider) or name the right claim (--oidc-groups-claim)."
)
NO_AUDIENCE = (
    "The password was right, but the access token that the identity provider gave to the operator cannot be used: its "
    'audience does not name "{}". The provider must add this audience to the tokens of the operator\'s client (Keycloak: an '
    "audience mapper). The provider has sent an ID token, too: --oidc-password-token=id_token takes the user from that. Tell "
    "the operator's administrator. A token may work meanwhile."
)


@pytest.fixture(scope="module")
def keycloak(environment) -> KeycloakAdmin:
    return KeycloakAdmin(environment["OIDC_ISSUER"], environment.state / "secrets" / "keycloak-admin")


@pytest.fixture
def operator_with(environment):
    """operator_with(*flags) starts the operator anew with further flags. It runs as usual again after the test."""
    settings = json.loads((environment.state / "environment.json").read_text())
    usual = [f"--operator-arg={argument}" for argument in settings["operator_args"]]

    def up(*arguments: str) -> None:
        run([LOCAL / "up", "--state", environment.state, "--no-query", *arguments], timeout=300).succeeded()

    yield lambda *flags: up(*usual, *(f"--operator-arg={flag}" for flag in flags))
    up(*(usual or ["--operator-arg=--activity-interval=60"]))


@pytest.fixture
def without_mapper(keycloak, environment):
    """without_mapper(name) takes a mapper of claims from the operator's client until the test is over -> what it was."""
    client, taken = environment["OIDC_CLIENT_ID"], []

    def take(name: str) -> dict:
        taken.append(keycloak.take_mapper(client, name))
        return taken[-1]

    yield take
    for mapper in taken:
        keycloak.add_mapper(client, mapper)


@pytest.fixture
def groups_by_scope(keycloak, environment, without_mapper):
    """Groups come only with a scope of their own, as an optional client scope of Keycloak or with Dex."""
    scope = keycloak.add_optional_scope(environment["OIDC_CLIENT_ID"], "groups", without_mapper("groups"))
    yield
    keycloak.remove_scope(scope)


@pytest.fixture
def groups_by_userinfo(keycloak, environment, without_mapper):
    mapper = without_mapper("groups")
    config = {**mapper["config"], "access.token.claim": "false", "id.token.claim": "false", "userinfo.token.claim": "true"}
    keycloak.add_mapper(environment["OIDC_CLIENT_ID"], {**mapper, "config": config})
    yield
    keycloak.take_mapper(environment["OIDC_CLIENT_ID"], "groups")


@pytest.fixture
def new_user(keycloak):
    """new_user() -> name, password and id of somebody of the group, whom the operator does not know, and who goes with the
    test."""
    made = []

    def call() -> tuple[str, str, str]:
        name = f"user-{uuid.uuid4().hex[:8]}"
        made.append(keycloak.create_user(name, f"{name}-password", GROUP))
        return name, f"{name}-password", made[-1]

    yield call
    for user_id in made:
        keycloak.delete_user(user_id)


def test_groups_that_come_only_with_a_scope(
    pyspark, pyhive, remote_url, new_pool, new_user, groups_by_scope, operator_with
):
    name, password, _ = new_user()
    connect = new_pool("by-group", "connect", access={"groups": [GROUP]})
    thrift = new_pool("by-group", "thrift", access={"groups": [GROUP]})
    url = remote_url(name, password, host=f"{connect}.test")
    assert pyspark("spark.range(1).collect()", url).complaint() == (
        f"pyspark.errors.exceptions.connect.SparkConnectGrpcException: User {name} may not use pool {connect}. {NO_GROUPS}"
    )
    assert f"User {name} may not use pool {thrift}." in pyhive(WHO, name, password, host=f"{thrift}.test").complaint()

    operator_with("--oidc-scope=openid groups")
    assert pyhive(WHO, name, password, host=f"{thrift}.test").succeeded().out == f"{name}\n"


def test_groups_of_the_userinfo_endpoint(
    pyspark, remote_url, access_token, new_user, groups_by_userinfo, operator_with, objects
):
    operator_with("--oidc-groups-from-userinfo")
    name, password, _ = new_user()
    token = access_token(name, password, scope="openid")
    for login in (remote_url(name, password), remote_url(name, token=token)):
        pyspark("print(spark.range(3).count())", login, stop=False).succeeded()
    assert [session["spec"]["groups"] for session in objects("sis")] == [[GROUP], [GROUP]]
    # Keycloak's endpoint takes no token without the scope openid.
    complaint = pyspark("spark.range(1).collect()", remote_url(name, token=access_token(name, password))).complaint()
    assert complaint == (
        "pyspark.errors.exceptions.connect.SparkConnectGrpcException: The token tells no groups (there is no claim "
        '"groups" with names in it), and the identity provider\'s userinfo endpoint does not tell them for it: '
        "403 Forbidden. Get an access token with the scope openid."
    )


def test_the_user_out_of_the_id_token(pyspark, pyhive, remote_url, new_user, without_mapper, operator_with, environment):
    without_mapper("audience")
    name, password, _ = new_user()
    words = NO_AUDIENCE.format(environment["OIDC_CLIENT_ID"])
    complaint = pyspark("spark.range(1).collect()", remote_url(name, password)).complaint()
    assert complaint == f"pyspark.errors.exceptions.connect.SparkConnectGrpcException: {words}"
    operator_with("--oidc-password-token=id_token")
    assert pyhive(WHO, name, password).succeeded().out == f"{name}\n"


def test_a_scope_that_the_provider_does_not_know(pyspark, remote_url, users, operator_with):
    operator_with("--oidc-scope=openid nonsense")
    assert pyspark("spark.range(1).collect()", remote_url(users[0])).complaint() == (
        "pyspark.errors.exceptions.connect.SparkConnectGrpcException: The identity provider does not give the operator's "
        'client the scope "openid nonsense" (invalid_scope), so nobody can log in with a password. Tell the operator\'s '
        "administrator: the provider must know each of these scopes and allow them to the client. A token may work "
        "meanwhile."
    )


def test_a_login_does_not_stay_at_the_provider(pyhive, keycloak, new_user, operator_with, eventually, metrics):
    name, password, user_id = new_user()
    operator_with("--auth-cache-ttl=2")
    for _ in range(3):
        assert pyhive(WHO, name, password).succeeded().out == f"{name}\n"
    eventually(lambda: keycloak.sessions(user_id) == [], 30, "the provider has forgotten all logins of the user")
    assert 'spark_session_operator_login_revocations_total{outcome="Revoked"}' in metrics()


def test_an_operator_that_stops_takes_its_logins_along(pyhive, keycloak, new_user, environment, eventually):
    name, password, user_id = new_user()
    assert pyhive(WHO, name, password).succeeded().out == f"{name}\n"
    assert len(keycloak.sessions(user_id)) == 1
    os.kill(environment.pid("operator"), signal.SIGTERM)
    try:
        eventually(lambda: keycloak.sessions(user_id) == [], 15, "the provider has forgotten the login")
    finally:
        environment.up()
