"""The provider's side of logins: accounts that are not let in, that are closed while they work, new keys, an outage, and
what the audit records say of it."""

import json
import os
import re
import signal
import time
import uuid

import pytest

import tokens
from clients import session_manifest
from keycloak_admin import KeycloakAdmin

COLLECT = "print(spark.range(3).count())"
REFUSED = "The identity provider refuses this login: {}. Fix this at the provider, then try again."
PROVIDER_DOWN = (
    "The identity provider does not answer at the moment; try again in a minute. "
    "Who logged in before can go on working for a while."
)
# Seconds that access tokens of the operator's client live in these tests, instead of 300.
LIFE = 2


@pytest.fixture(scope="module")
def keycloak(environment) -> KeycloakAdmin:
    return KeycloakAdmin(environment["OIDC_ISSUER"], environment.state / "secrets" / "keycloak-admin")


@pytest.fixture
def short_access_tokens(keycloak, environment):
    keycloak.token_lifespan(environment["OIDC_CLIENT_ID"], str(LIFE))
    yield
    keycloak.token_lifespan(environment["OIDC_CLIENT_ID"], "")


@pytest.fixture
def new_user(keycloak):
    """new_user() -> name, password and id of somebody who goes with the test."""
    made = []

    def call() -> tuple[str, str, str]:
        name = f"user-{uuid.uuid4().hex[:8]}"
        made.append(keycloak.create_user(name, f"{name}-password"))
        return name, f"{name}-password", made[-1]

    yield call
    for user_id in made:
        keycloak.delete_user(user_id)


@pytest.fixture
def provider_hangs(environment):
    """provider_hangs() stops Keycloak in its tracks: it takes connections and says nothing. It goes on after the test."""
    group = os.getpgid(environment.pid("keycloak"))
    yield lambda: os.killpg(group, signal.SIGSTOP)
    os.killpg(group, signal.SIGCONT)


@pytest.mark.parametrize(
    ("user", "reason"),
    [("mallory", "Account disabled"), ("trent", "Account is not fully set up")],
)
def test_an_account_that_is_not_let_in(pyspark, pyhive, beeline, remote_url, objects, user, reason):
    words, password = REFUSED.format(reason), f"{user}-password"
    complaint = pyspark(COLLECT, remote_url(user, password)).complaint()
    assert complaint == f"pyspark.errors.exceptions.connect.SparkConnectGrpcException: {words}"
    assert words in pyhive("SELECT 1", user, password).complaint()
    assert words in beeline("SELECT 1", user, password).complaint()
    assert objects("sis") == []


def test_a_disabled_account_loses_access_while_it_works(pyspark, remote_url, shells, keycloak, new_user, short_access_tokens):
    name, password, user_id = new_user()
    shell = shells("pyspark", remote_url(name, password))
    shell.say("SELECT 'before'")
    shell.until("before", 60)
    time.sleep(LIFE + 1)
    shell.say("SELECT 'refreshed'")
    shell.until("refreshed", 30)
    keycloak.disable_user(user_id)
    time.sleep(LIFE + 1)
    shell.say("SELECT 'after'")
    with pytest.raises(AssertionError, match=re.escape(REFUSED.format("Account disabled"))):
        shell.until("nothing that it prints", 30)


def test_refreshing_costs_the_provider_no_password(pyhive, new_user, short_access_tokens, environment):
    """By Keycloak's own count of the sessions that password logins make."""
    name, password, _ = new_user()
    for _ in range(2):
        assert pyhive("SELECT current_user()", name, password).succeeded().out == f"{name}\n"
        time.sleep(LIFE + 1)
    logins = [line for line in environment.log("operator").splitlines() if f'event="Login" user="{name}"' in line]
    assert len(logins) == 1


def test_a_new_key_of_the_provider_is_learnt_and_the_old_one_goes_on(pyspark, remote_url, keycloak, access_token, users, eventually):
    old = access_token(users[0])
    pyspark(COLLECT, remote_url(users[0], token=old)).succeeded()
    component = keycloak.add_signing_key()
    try:
        new = access_token(users[0])
        assert tokens.header(new)["kid"] != tokens.header(old)["kid"]
        # Keys are fetched every 10 s at most.
        eventually(lambda: pyspark(COLLECT, remote_url(users[0], token=new)).code == 0, 30, "the new key is known")
        pyspark(COLLECT, remote_url(users[0], token=access_token(users[0]))).succeeded()
        pyspark(COLLECT, remote_url(users[0], token=old)).succeeded()
    finally:
        keycloak.remove_signing_key(component)


def test_a_logout_at_the_provider_ends_what_the_provider_is_asked_for(
    pyspark, pyhive, remote_url, keycloak, new_user, access_token, short_access_tokens
):
    """A refresh token is not the last word, the password is. A token that the client itself brings counts until it expires."""
    name, password, user_id = new_user()
    token = access_token(name, password, "spark-notebook")
    pyspark(COLLECT, remote_url(name, token=token)).succeeded()
    assert pyhive("SELECT current_user()", name, password).succeeded().out == f"{name}\n"
    keycloak.log_out(user_id)
    time.sleep(LIFE + 1)
    assert pyhive("SELECT current_user()", name, password).succeeded().out == f"{name}\n"
    pyspark(COLLECT, remote_url(name, token=token)).succeeded()


def test_an_outage_is_outlasted_by_the_logged_in_and_told_to_others(
    pyspark, remote_url, shells, new_user, short_access_tokens, provider_hangs, users
):
    name, password, _ = new_user()
    late, late_password, _ = new_user()
    shell = shells("pyspark", remote_url(name, password))
    shell.say("SELECT 'before'")
    shell.until("before", 60)
    provider_hangs()
    time.sleep(LIFE + 1)
    shell.say("SELECT 'while it hangs'")
    shell.until("while it hangs", 30)
    time.sleep(LIFE + 1)
    began = time.monotonic()
    shell.say("SELECT 'at once'")
    shell.until("at once", 30)
    assert time.monotonic() - began < 3, "only the first one waits for the provider"
    complaint = pyspark(COLLECT, remote_url(late, late_password)).complaint()
    assert complaint == f"pyspark.errors.exceptions.connect.SparkConnectGrpcException: {PROVIDER_DOWN}"


def test_audit_records_tell_who_did_what(pyspark, remote_url, new_user, environment, thing, kubectl, eventually, users):
    name, password, _ = new_user()
    session_id = str(uuid.uuid4())
    mine = {"session_id": session_id}
    pyspark(COLLECT, remote_url(name, "wrong-password")).complaint()
    pyspark(COLLECT, remote_url(name, password, mine), stop=False).succeeded()
    assert "belongs to another user" in pyspark(COLLECT, remote_url(users[1], more=mine)).complaint()
    pyspark(COLLECT, remote_url(name, password, mine)).succeeded()
    session = f"connect-{session_id}"

    def records() -> list[str]:
        found = re.findall(r" audit: (.*)$", environment.log("operator"), re.M)
        return [record for record in found if f'user="{name}"' in record or session in record]

    ends = "SessionEnded"
    eventually(lambda: any(ends in record for record in records()), 30, "the end of the session is told")
    here = "address=127.0.0.1"
    assert records() == [
        f'event="LoginRefused" user="{name}" pool="connect" {here} reason="WrongPassword"',
        f'event="Login" user="{name}" pool="connect" {here}',
        f'event="SessionCreated" user="{name}" pool="connect" session="{session}" {here}',
        f'event="SessionRefused" user="{users[1]}" pool="connect" session="{session}" {here} reason="AnotherUsersSession"',
        f'event="SessionEnded" user="{name}" pool="connect" session="{session}" reason="Released"',
    ]


def test_a_session_that_is_deleted_has_ended_for_the_audit(kubectl, environment, eventually, users):
    name = f"deleted-{uuid.uuid4().hex[:8]}"
    manifest = session_manifest(name, users[0], "connect")
    kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    kubectl("delete", "sis", name)
    expected = f'event="SessionEnded" user="{users[0]}" pool="connect" session="{name}" reason="Deleted"'
    eventually(lambda: expected in environment.log("operator"), 30, "the record of its end")
