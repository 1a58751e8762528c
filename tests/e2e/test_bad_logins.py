"""Logins that are refused: the words that users of PySpark, beeline and PyHive read."""

import time
from datetime import datetime, timezone

import pytest

import tokens

WRONG = "Wrong user name or password."
NOBODY = (
    "No credentials were sent. Log in with user name and password or with a token "
    "(Spark Connect: sc://host:443/;token=<token>; JDBC: user and password)."
)
UNSIGNED = "The token is not signed (alg: none). Get one from the identity provider."
CHANGED = "The token's signature is wrong: it was changed or cut off. Copy it again, or get a new one."


@pytest.fixture(scope="module", autouse=True)
def _begin_to_expire(short_lived_token):
    """So that it has expired when its test comes."""


@pytest.fixture(scope="module")
def expired(short_lived_token, eventually) -> tuple[str, str]:
    """A token whose time is over, clock difference included, and what its owner is told."""
    expires = tokens.claims(short_lived_token)["exp"]
    eventually(lambda: time.time() > expires + 31, 40, "the token has expired")
    at = datetime.fromtimestamp(expires, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return short_lived_token, f"The token expired at {at}; get a new one."


@pytest.fixture
def says(pyspark, beeline, pyhive, environment, users):
    """says(client, user, password or token, words): the client fails with these words, and nothing else of ours."""

    def call(client: str, user: str | None, secret: str, words: str) -> None:
        if client == "pyspark":
            parameters = "" if user is None else f"/;token={secret}"
            complaint = pyspark("spark.range(1).collect()", f"sc://localhost:{environment.port}{parameters}").complaint()
            assert complaint == f"pyspark.errors.exceptions.connect.SparkConnectGrpcException: {words}"
        elif client == "beeline":
            complaint = beeline("SELECT 1", user, secret).complaint()
            assert complaint.startswith("Error: Could not open client transport with JDBC Uri: ")
            assert f"httpPath=cliservice: {words}" in complaint
        else:
            complaint = pyhive("SELECT 1", user, secret).complaint()
            assert complaint.startswith("pyhive.exc.OperationalError: TOpenSessionResp(")
            assert f'errorMessage="{words}' in complaint or f"errorMessage='{words}" in complaint

    return call


@pytest.fixture(autouse=True)
def _no_session_is_made(objects, sessions_end):
    before = len(objects("sis"))
    yield
    assert len(objects("sis")) == before


CLIENTS = pytest.mark.parametrize("client", ["pyspark", "beeline", "pyhive"])


def secret_for(client: str, remote_url, user: str, password: str) -> str:
    """What stands for a password in each client: PySpark's token is base64 of both."""
    return remote_url(user, password).partition("token=")[2] if client == "pyspark" else password


@CLIENTS
def test_a_wrong_password(says, remote_url, users, client):
    says(client, users[0], secret_for(client, remote_url, users[0], "wrong"), WRONG)


@CLIENTS
def test_an_unknown_user_hears_the_same(says, remote_url, client):
    says(client, "nobody-here", secret_for(client, remote_url, "nobody-here", "wrong"), WRONG)


@CLIENTS
def test_no_credentials(says, client):
    says(client, None, "", NOBODY)


@CLIENTS
def test_an_unsigned_token(says, access_token, users, client):
    says(client, users[0], tokens.unsigned(access_token(users[0])), UNSIGNED)


@CLIENTS
def test_a_token_in_which_somebody_wrote_another_name(says, access_token, users, client):
    says(client, users[0], tokens.altered(access_token(users[0]), preferred_username=users[1]), CHANGED)


@CLIENTS
def test_an_expired_token(says, expired, users, client):
    token, words = expired
    says(client, users[0], token, words)
